package service

import (
	"errors"

	"golang.org/x/sys/windows"
)

// root reports whether this process may install services of the machine.
func root() bool { return windows.GetCurrentProcessToken().IsElevated() }

// asRoot is empty: the command has to be repeated in the window of an administrator.
const asRoot = ""

func give(string) (func(string) error, error) {
	return nil, errors.New("choose the account of a service in the service manager of Windows")
}
