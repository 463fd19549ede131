package service

import (
	"path/filepath"

	"golang.org/x/sys/windows"
)

// find finds a program of the system itself: nobody else's of the name.
func find(name string) (string, error) {
	dir, err := windows.GetSystemDirectory()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, name), nil
}
