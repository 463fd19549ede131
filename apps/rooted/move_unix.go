//go:build linux || darwin || freebsd

package rooted

import (
	"os"

	"golang.org/x/sys/unix"
)

// rmdir removes an empty directory, and no file.
func rmdir(in *os.Root, name string) error {
	dir, err := in.Open(".")
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := unix.Unlinkat(int(dir.Fd()), name, unix.AT_REMOVEDIR); err != nil {
		return &os.PathError{Op: "rmdir", Path: name, Err: err}
	}
	return nil
}

// move renames between two directories, by their handles.
func move(from *os.Root, name string, to *os.Root, as string) error {
	a, err := from.Open(".")
	if err != nil {
		return err
	}
	defer a.Close()
	b, err := to.Open(".")
	if err != nil {
		return err
	}
	defer b.Close()
	if err := unix.Renameat(int(a.Fd()), name, int(b.Fd()), as); err != nil {
		return &os.LinkError{Op: "renameat", Old: name, New: as, Err: err}
	}
	return nil
}
