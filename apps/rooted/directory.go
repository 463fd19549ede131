package rooted

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"runtime"
)

// Ensure makes a directory in d, unless there is one of that very name. What else has the name stays.
func (d *Dir) Ensure(n Name, perm fs.FileMode) error {
	err := d.Mkdir(n, perm)
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	seen, err := d.Stat(n)
	if err != nil {
		return err
	}
	if err := expect(n, seen, fs.ModeDir); err != nil {
		return err
	}
	if exact, err := d.exact(n, seen); err != nil || !exact {
		return errors.Join(err, fmt.Errorf("%w: %v is the same name as that of another directory", ErrNotHere, n))
	}
	return nil
}

// RemoveEmpty removes a directory that has nothing in it, and nothing else: a file, a link, and a
// directory in which something is, stay and are an error.
func (d *Dir) RemoveEmpty(n Name) error {
	if err := representable(runtime.GOOS, n); err != nil {
		return err
	}
	return rmdir(d.r, n.s)
}

// Empty reports whether there is nothing in d, not even what is ours.
func (d *Dir) Empty() (bool, error) {
	f, err := d.r.Open(".")
	if err != nil {
		return false, err
	}
	defer f.Close()
	_, err = f.Readdirnames(1)
	if errors.Is(err, io.EOF) {
		return true, nil
	}
	return false, err
}
