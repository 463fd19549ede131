//go:build !(linux || darwin || freebsd)

package rooted

import (
	"errors"
	"os"
	"path/filepath"
)

// move renames between two directories, by their paths: these systems have no other way.
func move(from *os.Root, name string, to *os.Root, as string) error {
	return os.Rename(filepath.Join(from.Name(), name), filepath.Join(to.Name(), as))
}

// rmdir removes an empty directory. These systems have no call that removes directories alone by
// their handle.
func rmdir(in *os.Root, name string) error {
	info, err := in.Lstat(name)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return &os.PathError{Op: "rmdir", Path: name, Err: errors.New("not a directory")}
	}
	return in.Remove(name)
}
