package cli

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"ztm/apps/cloud/state"
)

// target is a file that is written beside the one whose name it takes when it is complete. Without a temp it is that file itself.
type target struct {
	*os.File
	to, temp string
	replaces fs.FileInfo // nil for nothing
}

// create begins a file. What is there and is no file, such as a device, is written to as it is, and so is a file in a directory
// that one may not write to.
func create(to string) (*target, error) {
	st, err := os.Stat(to)
	if err == nil && !st.Mode().IsRegular() {
		return asItIs(to, st)
	}
	if real, err := filepath.EvalSymlinks(to); err == nil {
		to = real
	}
	t := &target{to: to, temp: filepath.Join(filepath.Dir(to), ".ztm-"+rand.Text()+".part")}
	perm := fs.FileMode(0o666)
	if err == nil {
		t.replaces, perm = st, st.Mode().Perm() // from the beginning: who has opened a file goes on reading it
	}
	t.File, err = os.OpenFile(t.temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	switch {
	case errors.Is(err, fs.ErrPermission) && t.replaces != nil:
		return asItIs(to, st)
	case err != nil:
		return nil, fmt.Errorf("%s cannot be written: %s", to, state.Explain(err))
	case t.replaces == nil:
		return t, nil
	}
	if err = t.Chmod(perm); err != nil { // without the umask
		t.discard()
		return nil, err
	}
	return t, nil
}

func asItIs(to string, st fs.FileInfo) (*target, error) {
	f, err := os.OpenFile(to, os.O_WRONLY, 0)
	return &target{File: f, to: to, replaces: st}, err
}

// discard leaves what was there.
func (t *target) discard() {
	t.Close()
	if t.temp != "" {
		os.Remove(t.temp) // it may have its name by now
	}
}

// fill writes all of a file and gives it its name.
func (t *target) fill(from io.Reader) error {
	defer t.discard()
	n, err := io.Copy(t.File, from)
	switch {
	case err != nil:
		return err
	case t.temp == "" && t.replaces.Mode().IsRegular():
		err = t.Truncate(n)
	case t.temp != "" && t.replaces != nil:
		err = t.Sync() // or a loss of power takes the old content and the new one
	}
	if err = errors.Join(err, t.Close()); err != nil || t.temp == "" {
		return err
	}
	return os.Rename(t.temp, t.to)
}
