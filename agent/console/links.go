package console

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"ztm/apps"
)

// applets are the names under which the binary is something else: ztm-hub is `ztm run hub`.
var applets = []string{"ztm-hub", "ztm-agent"}

// installLinks makes every applet in dir a link to the binary exe, or a copy where the file system
// has no links. What is already right stays as it is. A file that is not ours is never replaced.
func installLinks(exe, dir string) ([]string, error) {
	exe, err := filepath.EvalSymlinks(exe)
	if err != nil {
		return nil, err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	suffix := ""
	if e := filepath.Ext(exe); strings.EqualFold(e, ".exe") {
		suffix = e
	}
	var made []string
	for _, name := range applets {
		path := filepath.Join(dir, name+suffix)
		if err := installLink(exe, path); err != nil {
			return made, fmt.Errorf("install %s: %w", path, err)
		}
		made = append(made, path)
	}
	return made, nil
}

func installLink(exe, path string) error {
	right, err := check(exe, path)
	if right || err != nil {
		return err
	}
	target := exe
	if real, err := filepath.EvalSymlinks(filepath.Dir(path)); err == nil && real == filepath.Dir(exe) {
		target = filepath.Base(exe)
	}
	// The new name is made beside the old one and put in its place: a running ztm-hub can always be
	// started again.
	temp := path + ".new"
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	defer os.Remove(temp)
	err = os.Symlink(target, temp)
	if err != nil {
		err = os.Link(exe, temp)
	}
	if err != nil {
		err = copyFile(exe, temp)
	}
	if err != nil {
		return err
	}
	return os.Rename(temp, path)
}

// check reports whether path already is the binary. It is an error if path is something that is not
// ours: we own links that lead to the binary or nowhere, other names of the binary's file, and
// equal copies.
func check(exe, path string) (right bool, err error) {
	fi, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	binary, err := os.Stat(exe)
	if err != nil {
		return false, err
	}
	there, err := os.Stat(path)
	link := fi.Mode().Type() == fs.ModeSymlink
	switch {
	case errors.Is(err, fs.ErrNotExist) && link:
		return false, nil
	case err != nil:
		return false, err
	case os.SameFile(there, binary):
		return true, nil
	case link:
		err = errors.New("a link to something else is in the way")
	case !there.Mode().IsRegular():
		err = errors.New("something that is not a file is in the way")
	default:
		same, e := equal(exe, path)
		if same || e != nil {
			return same, e
		}
		err = errors.New("another file is in the way")
	}
	return false, &apps.HintError{Err: err, Hint: "remove it, or choose another directory"}
}

// equal reports whether two files have the same content.
func equal(a, b string) (bool, error) {
	fa, err := os.Open(a)
	if err != nil {
		return false, err
	}
	defer fa.Close()
	fb, err := os.Open(b)
	if err != nil {
		return false, err
	}
	defer fb.Close()
	bufA, bufB := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		na, errA := io.ReadFull(fa, bufA)
		nb, errB := io.ReadFull(fb, bufB)
		if !bytes.Equal(bufA[:na], bufB[:nb]) {
			return false, nil
		}
		if errA != nil || errB != nil {
			end := errors.Is(errA, io.EOF) || errors.Is(errA, io.ErrUnexpectedEOF)
			if !end {
				return false, errA
			}
			return errors.Is(errB, io.EOF) || errors.Is(errB, io.ErrUnexpectedEOF), nil
		}
	}
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if closed := out.Close(); err == nil {
		err = closed
	}
	return err
}
