package cli

import (
	"os"

	"golang.org/x/sys/windows"
)

// hideInput stops a console from showing what is typed, and returns what undoes it. It fails for what is no console.
func hideInput(f *os.File) (restore func(), err error) {
	h := windows.Handle(f.Fd())
	var saved uint32
	if err := windows.GetConsoleMode(h, &saved); err != nil {
		return nil, err
	}
	if err := windows.SetConsoleMode(h, saved&^windows.ENABLE_ECHO_INPUT); err != nil {
		return nil, err
	}
	return func() { windows.SetConsoleMode(h, saved) }, nil
}
