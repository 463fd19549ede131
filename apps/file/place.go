package file

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"ztm/apps"
	"ztm/apps/file/transfer"
	"ztm/apps/rooted"
	"ztm/tunnel/answer"
)

// place is where something is or will be: a name in a directory. Without a name it is the root of a
// file system, or of what a user may see.
type place struct {
	dir  *rooted.Dir
	name rooted.Name
}

func (p place) close() { p.dir.Close() }

// info looks at what is there.
func (p place) info() (fs.FileInfo, error) {
	if p.name == (rooted.Name{}) {
		return p.dir.Self()
	}
	return p.dir.Stat(p.name)
}

// inside opens the directory that is there.
func (p place) inside() (*rooted.Dir, error) {
	if p.name == (rooted.Name{}) {
		return p.dir.At(rooted.Path{})
	}
	return p.dir.Sub(p.name)
}

// own finds a path with the rights of this account, and follows links on the way. What is at its end
// need not exist.
func own(path string) (place, error) {
	path, err := filepath.Abs(path) // so that the directory that it is in has a name
	if err != nil {
		return place{}, err
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	} else if !errors.Is(err, fs.ErrNotExist) {
		return place{}, err
	}
	dir, base := filepath.Split(path)
	d, err := rooted.Open(dir)
	if err != nil {
		return place{}, err
	}
	if base == "" {
		return place{dir: d}, nil
	}
	n, err := rooted.LocalName(base)
	if err != nil {
		d.Close()
		return place{}, err
	}
	return place{d, n}, nil
}

// below finds what is at a path below a grant. No link is followed.
func below(g Grant, rest string) (place, error) {
	if rest == "" {
		return own(string(g.Path)) // the owner has named it
	}
	p, err := rooted.LocalPath(filepath.ToSlash(rest))
	if err != nil {
		return place{}, err
	}
	root, err := rooted.Open(string(g.Path))
	if err != nil {
		return place{}, err
	}
	defer root.Close()
	dir, n := p.Split()
	in, err := root.At(dir)
	if err != nil {
		return place{}, err
	}
	return place{in, n}, nil
}

// Origin opens what a path of this machine names, with the rights of this account, to send it. A
// directory is an error unless whole says that all that is in it is meant. The caller closes the
// directory.
func Origin(path string, whole bool) (transfer.Source, error) {
	p, err := own(path)
	if err != nil {
		return transfer.Source{}, outward(path, err)
	}
	src, err := p.origin(whole)
	if err != nil {
		p.close()
		err = outward(path, err)
	}
	return src, err
}

func (p place) origin(whole bool) (transfer.Source, error) {
	if p.name == (rooted.Name{}) {
		return transfer.Source{}, errors.New("a whole file system is not copied: name what is in it")
	}
	info, err := p.info()
	if err != nil {
		return transfer.Source{}, err
	}
	if info.IsDir() && !whole {
		return transfer.Source{}, errors.New("is a directory: -r copies all that is in it")
	}
	return transfer.Source{Dir: p.dir, Name: p.name}, nil
}

// Destination finds where something of a name goes that is copied to a path of this machine: into it,
// if it is a directory, or else there. into says that it has to be a directory. The caller closes
// the directory.
func Destination(path, name string, into bool) (transfer.Target, error) {
	p, err := own(path)
	if err != nil {
		return transfer.Target{}, outward(path, err)
	}
	to, err := p.destination(name, into || strings.HasSuffix(path, "/"))
	if err != nil {
		err = outward(path, err)
	}
	return to, err
}

// destination consumes p.
func (p place) destination(name string, into bool) (transfer.Target, error) {
	info, err := p.info()
	switch {
	case err == nil && info.IsDir():
		defer p.close()
		n, err := rooted.LocalName(name)
		if err != nil {
			return transfer.Target{}, err
		}
		in, err := p.inside()
		return transfer.Target{Dir: in, Name: n}, err
	case err == nil && into:
		err = errors.New("is not a directory")
	case errors.Is(err, fs.ErrNotExist) && into:
		err = errors.New("there is no such directory")
	case errors.Is(err, fs.ErrNotExist):
		err = nil
	}
	if err != nil {
		p.close()
		return transfer.Target{}, err
	}
	return transfer.Target{Dir: p.dir, Name: p.name}, nil
}

// outward makes an error that whoever asked for a path may see: it names the path as it was asked
// for, and no other.
func outward(path string, err error) error {
	code := answer.Internal
	switch {
	case errors.As(err, new(*answer.Error)):
		return err
	case errors.Is(err, fs.ErrNotExist):
		code = answer.NotFound
	case errors.Is(err, fs.ErrPermission), errors.Is(err, rooted.ErrLink), errors.Is(err, rooted.ErrSpecial):
		code = answer.Denied
	case errors.Is(err, fs.ErrExist):
		code = answer.Conflict
	default:
		code = answer.BadRequest
	}
	return answer.Errorf(code, "%v: %s", apps.Bytes(path), why(err))
}

// why is the reason in an error, without paths that nobody asked for.
func why(err error) string {
	var at *fs.PathError
	if errors.As(err, &at) {
		return at.Err.Error()
	}
	return fmt.Sprint(err)
}
