// Package rooted is all access to files below a directory that names from peers lead to.
//
//	a peer's bytes -> ParsePath -> Path -> Dir.At (each directory by itself) -> Dir: Open, Stat, Create ... Commit
//
// Package [os.Root] is below it: nothing leads out of a root. This room adds what a root follows or
// waits for: a symbolic link is refused inside the root as well, wherever it stands in a path; so
// are devices, pipes and sockets; names are checked by the type that opens files, and not by its
// callers.
//
// A [Dir] is the handle of one directory, and takes names of that directory alone. The way down is a
// chain of handles. At each step a name is looked at without following it, then opened, and what was
// opened must be the same file as what was looked at (device and inode, or the file ID of Windows).
// So a link that is put there in between leads to an error, and never to another file. A handle
// stays with its directory when that is moved.
//
// A file is written beside its name, and takes the name when it is complete: see [Dir.Create].
package rooted

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// What can be wrong with a file, apart from what the system says. Texts name it relative to its
// root.
var (
	ErrName    = errors.New("the name is not allowed")
	ErrNotHere = errors.New("the name cannot be represented here")
	ErrLink    = errors.New("a symbolic link is not followed")
	ErrSpecial = errors.New("neither a file nor a directory")
	ErrChanged = errors.New("it was changed meanwhile")
)

// Dir is a directory below a root. Its methods may be called from any goroutine; Close ends it.
type Dir struct{ r *os.Root }

// Open opens a directory of this machine as a root. Links on the way to it are followed: who names
// it has the rights of this account.
func Open(dir string) (*Dir, error) {
	if dir == "" {
		return nil, fmt.Errorf("%w: an empty name", ErrName)
	}
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, err
	}
	r, err := os.OpenRoot(real)
	if err != nil {
		return nil, err
	}
	return &Dir{r}, nil
}

// Close releases the handle. Files that were opened stay open.
func (d *Dir) Close() error { return d.r.Close() }

// Stat looks at a name, without following it.
func (d *Dir) Stat(n Name) (fs.FileInfo, error) {
	if err := representable(runtime.GOOS, n); err != nil {
		return nil, err
	}
	return d.r.Lstat(n.s)
}

// Self returns what d is.
func (d *Dir) Self() (fs.FileInfo, error) { return d.r.Stat(".") }

// Sub opens a directory in d.
func (d *Dir) Sub(n Name) (*Dir, error) {
	seen, err := d.Stat(n)
	if err != nil {
		return nil, err
	}
	if err := expect(n, seen, fs.ModeDir); err != nil {
		return nil, err
	}
	return d.subAs(n, seen)
}

// subAs opens the directory that was seen under a name, and no other one.
func (d *Dir) subAs(n Name, seen fs.FileInfo) (*Dir, error) {
	r, err := d.r.OpenRoot(n.s)
	if err != nil {
		return nil, err
	}
	sub := &Dir{r}
	if got, err := sub.Self(); err != nil || !os.SameFile(seen, got) {
		r.Close()
		return nil, errors.Join(fmt.Errorf("%v: %w", n, ErrChanged), err)
	}
	return sub, nil
}

// expect checks that what was seen under a name is of a type: a directory, or 0 for a regular file.
func expect(n Name, seen fs.FileInfo, kind fs.FileMode) error {
	switch is := seen.Mode().Type(); {
	case is == kind:
		return nil
	case is&(fs.ModeSymlink|fs.ModeIrregular) != 0: // Windows has links of other kinds
		return fmt.Errorf("%v: %w", n, ErrLink)
	case is == fs.ModeDir:
		return fmt.Errorf("%v: is a directory", n)
	case is == 0:
		return fmt.Errorf("%v: is not a directory", n)
	}
	return fmt.Errorf("%v: %w", n, ErrSpecial)
}

// At opens the directory at a path below d; for the zero value d once more.
func (d *Dir) At(p Path) (*Dir, error) {
	r, err := d.r.OpenRoot(".")
	if err != nil {
		return nil, err
	}
	at := &Dir{r}
	for n := range p.names {
		sub, err := at.Sub(n)
		at.Close()
		if err != nil {
			return nil, err
		}
		at = sub
	}
	return at, nil
}

// Open opens a regular file for reading. It does not wait for anything.
func (d *Dir) Open(n Name) (*os.File, error) { return d.open(n, os.O_RDONLY) }

func (d *Dir) open(n Name, flag int) (*os.File, error) {
	seen, err := d.Stat(n)
	if err != nil {
		return nil, err
	}
	if err := expect(n, seen, 0); err != nil {
		return nil, err
	}
	return d.openAs(n, flag, seen)
}

// openAs opens the file that was seen under a name, and no other one.
func (d *Dir) openAs(n Name, flag int, seen fs.FileInfo) (*os.File, error) {
	f, err := d.r.OpenFile(n.s, flag|nonblock, 0)
	if err != nil {
		return nil, err
	}
	if got, err := f.Stat(); err != nil || !os.SameFile(seen, got) {
		f.Close()
		return nil, errors.Join(fmt.Errorf("%v: %w", n, ErrChanged), err)
	}
	return f, nil
}

// Mkdir makes a directory in d, with a mode that the umask narrows. It is an error if the name
// exists.
func (d *Dir) Mkdir(n Name, perm fs.FileMode) error {
	if err := representable(runtime.GOOS, n); err != nil {
		return err
	}
	return d.r.Mkdir(n.s, perm&fs.ModePerm)
}

// MkdirAt opens the directory at a path below d, and makes those that are missing.
func (d *Dir) MkdirAt(p Path, perm fs.FileMode) (*Dir, error) {
	at, err := d.At(Path{})
	if err != nil {
		return nil, err
	}
	for n := range p.names {
		if err := at.Mkdir(n, perm); err != nil && !errors.Is(err, fs.ErrExist) {
			at.Close()
			return nil, err
		}
		sub, err := at.Sub(n)
		at.Close()
		if err != nil {
			return nil, err
		}
		at = sub
	}
	return at, nil
}

// Remove removes a file, an empty directory or a link, without following it.
func (d *Dir) Remove(n Name) error {
	if err := representable(runtime.GOOS, n); err != nil {
		return err
	}
	return d.r.Remove(n.s)
}

// Rename gives a file or directory another name in d. Where that name is taken it is an error.
func (d *Dir) Rename(from, to Name) error {
	if err := errors.Join(representable(runtime.GOOS, from), representable(runtime.GOOS, to)); err != nil {
		return err
	}
	if _, err := d.r.Lstat(to.s); err == nil {
		return fmt.Errorf("%v: %w", to, fs.ErrExist)
	}
	return d.r.Rename(from.s, to.s)
}

// Move moves a file, a directory or a link to another directory of the same file system, under a name
// that is not taken there.
func (d *Dir) Move(from Name, to *Dir, as Name) error {
	if err := errors.Join(representable(runtime.GOOS, from), representable(runtime.GOOS, as)); err != nil {
		return err
	}
	if _, err := to.r.Lstat(as.s); err == nil {
		return fmt.Errorf("%v: %w", as, fs.ErrExist)
	}
	return move(d.r, from.s, to.r, as.s)
}

// RemoveAll removes a name with all that is below it. Links are removed, and not followed.
func (d *Dir) RemoveAll(n Name) error {
	if err := representable(runtime.GOOS, n); err != nil {
		return err
	}
	return d.r.RemoveAll(n.s)
}

// SetAttributes gives a file or directory a mode and a time of change. Of the mode only the
// permissions are taken: nobody gets setuid from a peer. A zero time leaves the time, and a disk that
// has no modes of its own, as FAT, leaves the mode.
func (d *Dir) SetAttributes(n Name, perm fs.FileMode, changed time.Time) error {
	seen, err := d.Stat(n)
	if err != nil {
		return err
	}
	if err := expect(n, seen, seen.Mode().Type()&fs.ModeDir); err != nil {
		return err
	}
	if err := d.r.Chmod(n.s, perm&fs.ModePerm); err != nil && (!noMode(err) || d.hasModes()) {
		return err
	}
	if changed.IsZero() {
		return nil
	}
	return d.r.Chtimes(n.s, time.Time{}, changed)
}

// noMode reports whether a mode was not set because somebody else owns the file, or the disk has none.
func noMode(err error) bool {
	return errors.Is(err, fs.ErrPermission) || errors.Is(err, errors.ErrUnsupported)
}

// hasModes reports whether a file that is made in d can get a mode.
func (d *Dir) hasModes() bool {
	probe := own + "-" + strings.ToLower(rand.Text()) + part
	f, err := d.r.OpenFile(probe, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return true // as far as one knows
	}
	defer f.Close()
	defer d.r.Remove(probe)
	return !noMode(f.Chmod(0o600))
}

// Names returns all names in d, in the order of the file system. Ours are left out, and so are those
// that no [Name] can be.
func (d *Dir) Names() ([]Name, error) {
	f, err := d.r.Open(".")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var all []Name
	for {
		some, err := f.Readdirnames(1024)
		for _, s := range some {
			if n, err := LocalName(s); err == nil {
				all = append(all, n)
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return all, nil
		case err != nil:
			return nil, err
		case len(all) > maxNames:
			return nil, fmt.Errorf("a directory of more than %d names", maxNames)
		}
	}
}

// maxNames is how many names a directory may have: they are in memory, one directory at a time.
const maxNames = 1 << 20

// Sync waits until the disk has what happened to names in d.
func (d *Dir) Sync() error {
	if !syncsDirectories {
		return nil
	}
	f, err := d.r.Open(".")
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// reserve is what is left free on a file system of a size, in bytes: on that of a router, which may
// have 8 MB, not all of it.
func reserve(size uint64) uint64 {
	const most, part = 64_000_000, 8
	return min(most, size/part)
}

// Free returns how many bytes may be written to the file system of d; false says that it is not
// known.
func (d *Dir) Free() (uint64, bool) {
	f, err := d.r.Open(".")
	if err != nil {
		return 0, false
	}
	defer f.Close()
	n, size, ok := free(f.Fd())
	return n - min(n, reserve(size)), ok
}

// Foreign reports whether a file is another account's under one more name, a hard link: that account
// can change it, and nobody need have meant it to be here.
func Foreign(info fs.FileInfo) bool { return info.Mode().IsRegular() && foreign(info) }

// Disk is what a directory is on. The zero value is something of which nothing is known.
type Disk struct {
	Flash bool   // of a router: it has no room to spare, and each write wears it
	Size  uint64 // of the file system, in bytes
}

// Disk returns what d is on.
func (d *Dir) Disk() Disk {
	f, err := d.r.Open(".")
	if err != nil {
		return Disk{}
	}
	defer f.Close()
	return diskOf(f.Fd())
}

// Handle returns the directory as an open file, for what the system does with one. The caller closes
// it.
func (d *Dir) Handle() (*os.File, error) { return d.r.Open(".") }
