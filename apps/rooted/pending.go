package rooted

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// Pending is a file that is being written, under a name of ours in the directory that it is for. It
// takes its name by Commit. Until then nobody sees it under that name, and what stood there stays.
//
//	Create -> write -> fsync -> the name is as it was at Create? -> rename -> fsync the directory
//	   \---- Keep: what has come stays for the next Create of the same key; Discard: it goes
//
// It belongs to one goroutine, but for Write and WriteAt.
type Pending struct {
	*os.File
	dir      *Dir
	name     Name
	temp     string
	stray    bool         // no later Create would find it
	before   fs.FileInfo  // what stood under the name at Create; nil for nothing
	replaces bool         // whether Commit may replace that
	written  fs.FileInfo  // what it was just before it got its name
	fresh    atomic.Int64 // bytes that were written since the disk was told to begin
	ended    bool
}

// Create begins a file for a name in d. key says what it will contain: what an earlier Create with
// the same name and key has left is there again, and the caller checks it before it goes on behind
// it. Without a key it is always empty. replace says whether Commit may replace a file; without it,
// a name that is taken is [fs.ErrExist], now or at Commit.
func (d *Dir) Create(n Name, key string, replace bool) (*Pending, error) {
	p := &Pending{dir: d, name: n, replaces: replace}
	if err := p.look(); err != nil {
		return nil, err
	}
	if key != "" {
		sum := sha256.Sum256([]byte(n.s + "\x00" + key))
		p.temp = own + "-" + hex.EncodeToString(sum[:12]) + part
		if err := p.reuse(); err == nil {
			return p, nil
		}
	}
	for {
		if p.temp == "" {
			p.temp, p.stray = own+"-"+strings.ToLower(rand.Text())+".part", true
		}
		f, err := d.r.OpenFile(p.temp, os.O_RDWR|os.O_CREATE|os.O_EXCL|nonblock, 0o600)
		if errors.Is(err, fs.ErrExist) {
			p.temp = "" // somebody else is at it, or it is no file of ours
			continue
		}
		if err != nil {
			return nil, err
		}
		if err := lock(f); err != nil {
			f.Close()
			return nil, err
		}
		p.File = f
		return p, nil
	}
}

// Replaces reports whether a file stood under the name at Create.
func (p *Pending) Replaces() bool { return p.before != nil }

// Before returns what stood under the name at Create, or at the last Again; nil for nothing.
func (p *Pending) Before() fs.FileInfo { return p.before }

// Again looks once more at what stands under the name: that is what Commit may replace, and nothing
// that comes later. It is for who has moved away what stood there.
func (p *Pending) Again() error { return p.look() }

// look notes what stands under the name, and refuses what cannot be replaced.
func (p *Pending) look() error {
	p.before = nil
	seen, err := p.dir.Stat(p.name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !p.replaces:
		return fmt.Errorf("%v: %w", p.name, fs.ErrExist)
	}
	if err := expect(p.name, seen, 0); err != nil {
		return err
	}
	if exact, err := p.dir.exact(p.name, seen); err != nil || !exact {
		return errors.Join(err, fmt.Errorf("%w: %v is the same name as that of another file", ErrNotHere, p.name))
	}
	p.before = seen
	return nil
}

// exact reports whether the directory has a name as it is written, or in the form of Unicode that the
// disk has made of it. File systems that fold case find a file under other names as well.
func (d *Dir) exact(n Name, seen fs.FileInfo) (bool, error) {
	ascii := strings.IndexFunc(n.s, func(r rune) bool { return r >= 0x80 }) < 0
	if ascii {
		other, err := d.r.Lstat(swapCase(n.s))
		if err != nil || !os.SameFile(other, seen) {
			return true, nil
		}
	}
	names, err := d.Names()
	return amongForms(names, n, func(have Name) bool {
		other, err := d.r.Lstat(have.s)
		return err == nil && os.SameFile(other, seen)
	}), err
}

// amongForms reports whether names have a name, in its own form or in another one for the same file.
func amongForms(names []Name, n Name, same func(Name) bool) bool {
	return slices.ContainsFunc(names, func(have Name) bool {
		return have == n || Form(have.s) == Form(n.s) && same(have)
	})
}

// Folds reports whether d finds a file that it has under that name with the case of letters changed,
// too.
func (d *Dir) Folds(n Name) (bool, error) {
	seen, err := d.r.Lstat(n.s)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	other, err := d.r.Lstat(swapCase(n.s))
	return err == nil && os.SameFile(seen, other), nil
}

func swapCase(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c|0x20 >= 'a' && c|0x20 <= 'z' {
			b[i] = c ^ 0x20
		}
	}
	return string(b)
}

// reuse opens what an earlier attempt has left, if it is a file of ours that nobody else writes.
func (p *Pending) reuse() error {
	temp := Name{p.temp}
	f, err := p.dir.open(temp, os.O_RDWR)
	if err != nil {
		return err
	}
	err = lock(f)
	if err == nil {
		err = p.same(f)
	}
	if err == nil && !alone(f) {
		err = ErrChanged // a hard link: what is written would be in another file, too
	}
	if err == nil {
		_, err = f.Seek(0, io.SeekEnd)
	}
	if err != nil {
		f.Close()
		return err
	}
	p.File = f
	return nil
}

// same checks that the temporary name is that of a file.
func (p *Pending) same(f *os.File) error {
	mine, err := f.Stat()
	if err != nil {
		return err
	}
	if at, err := p.dir.r.Lstat(p.temp); err != nil || !os.SameFile(mine, at) {
		return fmt.Errorf("%v: the temporary file %w", p.name, ErrChanged)
	}
	return nil
}

// Commit gives the file a mode, of which only the permissions count, and a time of change unless
// that is zero, and then its name. durable waits until the disk has all of it. An error leaves what
// stood under the name, and the file for the next attempt.
func (p *Pending) Commit(perm fs.FileMode, changed time.Time, durable bool) error {
	defer p.Keep()
	err := p.settle(perm, changed, durable)
	if err == nil {
		err = p.take()
	}
	if err != nil {
		p.Chmod(0o600) // the next attempt writes it; where that fails, the attempt begins anew
		return err
	}
	if durable {
		return p.dir.Sync()
	}
	return nil
}

// take gives the file its name, if what stands there is what stood there.
func (p *Pending) take() error {
	if err := p.Unchanged(); err != nil {
		return err
	}
	return p.rename()
}

// Unchanged returns [ErrChanged] if something else stands under the name than what stood there.
func (p *Pending) Unchanged() error {
	now := &Pending{dir: p.dir, name: p.name, replaces: p.replaces}
	if err := now.look(); err != nil {
		return err
	}
	if (now.before == nil) != (p.before == nil) || now.before != nil && !unchanged(p.before, now.before) {
		return fmt.Errorf("%v: %w", p.name, ErrChanged)
	}
	return nil
}

// settle writes all that belongs to the file itself.
func (p *Pending) settle(perm fs.FileMode, changed time.Time, durable bool) error {
	if err := p.same(p.File); err != nil {
		return err
	}
	if runtime.GOOS != "windows" || perm&0o200 == 0 {
		if err := p.Chmod(perm & fs.ModePerm); err != nil && !noMode(err) { // of a file of ours: its disk knows none
			return err
		}
	}
	if !changed.IsZero() {
		if err := p.dir.r.Chtimes(p.temp, time.Time{}, changed); err != nil {
			return err
		}
	}
	if durable {
		if err := p.Sync(); err != nil {
			return err
		}
	}
	var err error
	p.written, err = p.Stat()
	return err
}

// Written returns what the file was just before Commit gave it its name; somebody may have changed
// it since. It is nil before that.
func (p *Pending) Written() fs.FileInfo { return p.written }

// unchanged reports whether a file is the one that it was, with the same content as far as one can
// see from outside.
func unchanged(a, b fs.FileInfo) bool {
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// rename gives the file its name. Where nothing is to be replaced, a hard link is the way: it fails
// if the name is taken at that very moment.
func (p *Pending) rename() error {
	if renamesOpenFiles || p.Close() == nil {
		if !p.replaces {
			err := p.dir.r.Link(p.temp, p.name.s)
			if err == nil {
				return p.dir.r.Remove(p.temp)
			}
			if errors.Is(err, fs.ErrExist) {
				return fmt.Errorf("%v: %w", p.name, fs.ErrExist)
			}
		}
		return p.dir.r.Rename(p.temp, p.name.s)
	}
	return fmt.Errorf("%v: cannot close", p.name)
}

// Keep closes the file, and leaves what has come for the next Create with the same key. What that
// would not find goes: it had no key, or two were at it. It may be called after Commit, and again.
func (p *Pending) Keep() error {
	if p.ended {
		return nil
	}
	if (p.stray || p.empty()) && p.same(p.File) == nil {
		p.dir.r.Remove(p.temp) // otherwise it is lost room, and no more
	}
	p.ended = true
	return p.Close()
}

// empty reports whether nothing has come: the next attempt begins as well without it.
func (p *Pending) empty() bool {
	st, err := p.Stat()
	return err == nil && st.Size() == 0
}

// Discard removes the file, unless it has its name by now.
func (p *Pending) Discard() error {
	if p.ended {
		return nil
	}
	err := p.same(p.File)
	if err == nil {
		err = p.dir.r.Remove(p.temp)
	}
	return errors.Join(err, p.Keep())
}
