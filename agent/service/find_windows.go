package service

import (
	"path/filepath"

	"golang.org/x/sys/windows"
)

// find returns the path of a program in the system directory, and ignores PATH.
func find(name string) (string, error) {
	dir, err := windows.GetSystemDirectory()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, name), nil
}
