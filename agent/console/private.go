package console

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// PrivateFile is a file that only its owner may read and that is there whole or not at all: a
// permit.
type PrivateFile struct {
	path string
	temp *os.File
}

// CreatePrivate makes ready to write the file: what could fail fails now, before there is a secret
// to lose. A regular file of that name will be replaced; anything else of that name is an error.
// Discard must be called in the end.
func CreatePrivate(path string) (*PrivateFile, error) {
	fi, err := os.Lstat(path)
	switch {
	case err == nil && !fi.Mode().IsRegular():
		return nil, fmt.Errorf("%s is not a regular file", path)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	temp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return nil, fmt.Errorf("cannot write %s: %w", path, err)
	}
	return &PrivateFile{path: path, temp: temp}, nil
}

// Commit writes the content and puts the file in place.
func (f *PrivateFile) Commit(content []byte) error {
	_, err := f.temp.Write(content)
	if err == nil {
		err = f.temp.Sync()
	}
	if closed := f.temp.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(f.temp.Name(), f.path)
	}
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", f.path, err)
	}
	return nil
}

// Discard removes what was begun. After Commit it does nothing.
func (f *PrivateFile) Discard() {
	f.temp.Close()
	os.Remove(f.temp.Name())
}
