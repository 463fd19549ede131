package terminal

import (
	"os"
	"time"

	"golang.org/x/sys/windows"

	"ztm/apps/process"
)

// window is the console that this command was typed in.
type window struct{ in, out *os.File }

// isWindow reports whether a file is a console.
func isWindow(f *os.File) bool {
	var mode uint32
	return windows.GetConsoleMode(windows.Handle(f.Fd()), &mode) == nil
}

// raw makes the console pass on every key as it is, speak in escape sequences and in UTF-8, and
// returns what restores it.
func (w window) raw() (restore func(), err error) {
	in, out := windows.Handle(w.in.Fd()), windows.Handle(w.out.Fd())
	var inMode, outMode uint32
	if err := windows.GetConsoleMode(in, &inMode); err != nil {
		return nil, err
	}
	if err := windows.GetConsoleMode(out, &outMode); err != nil {
		return nil, err
	}
	inPage, err := windows.GetConsoleCP()
	if err != nil {
		return nil, err
	}
	outPage, err := windows.GetConsoleOutputCP()
	if err != nil {
		return nil, err
	}
	restore = func() {
		windows.SetConsoleMode(in, inMode)
		windows.SetConsoleMode(out, outMode)
		windows.SetConsoleCP(inPage)
		windows.SetConsoleOutputCP(outPage)
	}
	const cooked = windows.ENABLE_ECHO_INPUT | windows.ENABLE_LINE_INPUT | windows.ENABLE_PROCESSED_INPUT
	err = windows.SetConsoleMode(in, inMode&^cooked|windows.ENABLE_VIRTUAL_TERMINAL_INPUT)
	if err == nil {
		err = windows.SetConsoleMode(out, outMode|windows.ENABLE_PROCESSED_OUTPUT|
			windows.ENABLE_VIRTUAL_TERMINAL_PROCESSING|windows.DISABLE_NEWLINE_AUTO_RETURN)
	}
	if err != nil {
		restore()
		return nil, err
	}
	const utf8 = 65001
	windows.SetConsoleCP(utf8)
	windows.SetConsoleOutputCP(utf8)
	return restore, nil
}

func (w window) size() process.Size {
	var info windows.ConsoleScreenBufferInfo
	if windows.GetConsoleScreenBufferInfo(windows.Handle(w.out.Fd()), &info) != nil {
		return process.Size{}
	}
	return process.Size{
		Cols: uint16(info.Window.Right - info.Window.Left + 1),
		Rows: uint16(info.Window.Bottom - info.Window.Top + 1),
	}
}

// resized calls f after each change of the size, until stop is called. stop waits for f. Consoles
// do not tell of a change without taking over all input: it is looked for.
func (w window) resized(f func()) (stop func()) {
	last := w.size()
	return until(func(ended <-chan struct{}) {
		look := time.NewTicker(250 * time.Millisecond)
		defer look.Stop()
		for {
			select {
			case <-look.C:
				if now := w.size(); now != last {
					last = now
					f()
				}
			case <-ended:
				return
			}
		}
	})
}
