// Package tree is the local directory of the cloud: users/USER/PATH below it is the file that is
// published as /users/USER/PATH.
//
//	a name that a peer signed -> package rooted -> a file, or a refusal
//	Create -> write -> [what stands there goes to the trash, or aside if somebody edited it] -> Commit
//
// Another process that has the same directory keeps this one out.
package tree

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"ztm/apps/cloud/trash"
	"ztm/apps/rooted"
	"ztm/tunnel/answer"
)

// Tree is an open local directory. Its methods may be called from any goroutine; none after Close.
type Tree struct {
	Disk rooted.Disk // that it is on; set before the first use

	dir  string
	root *rooted.Dir
	lock *os.File

	pruning sync.Mutex
	pruned  time.Time // the last time; guarded by pruning
}

// lockName is the file that says that a directory is in use. No path of a file can name it.
const lockName = ".ztm-lock"

// Open opens a directory, and makes it where there is none.
func Open(dir string) (*Tree, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := rooted.Lock(lock); err != nil {
		who, _ := os.ReadFile(lock.Name())
		lock.Close()
		return nil, answer.Errorf(answer.Conflict, "the directory %s is in use by another agent (process %.20s)", dir, strings.TrimSpace(string(who)))
	}
	lock.Truncate(0)
	fmt.Fprintln(lock, os.Getpid()) // for the text above alone
	root, err := rooted.Open(dir)
	if err != nil {
		lock.Close()
		return nil, err
	}
	return &Tree{Disk: root.Disk(), dir: dir, root: root, lock: lock}, nil
}

// Close gives the directory back.
func (t *Tree) Close() error { return errors.Join(t.root.Close(), t.lock.Close()) }

// Path returns where a file of a user is below the directory.
func Path(user, path string) (rooted.Path, error) {
	return rooted.ParsePath("users/" + user + "/" + path)
}

// at returns the directory of a file, which the caller closes, and its name there.
func (t *Tree) at(user, path string, create bool) (*rooted.Dir, rooted.Name, error) {
	p, err := Path(user, path)
	if err != nil {
		return nil, rooted.Name{}, err
	}
	dir, name := p.Split()
	open := t.root.At
	if create {
		open = func(p rooted.Path) (*rooted.Dir, error) { return t.root.MkdirAt(p, 0o700) }
	}
	d, err := open(dir)
	return d, name, err
}

// Open opens a file for reading.
func (t *Tree) Open(user, path string) (*os.File, fs.FileInfo, error) {
	d, name, err := t.at(user, path, false)
	if err != nil {
		return nil, nil, err
	}
	defer d.Close()
	f, err := d.Open(name)
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
	}
	return f, info, err
}

// Stat looks at a file. What is not there is [fs.ErrNotExist]; what is no file is an error.
func (t *Tree) Stat(user, path string) (fs.FileInfo, error) {
	d, name, err := t.at(user, path, false)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	info, err := d.Stat(name)
	if err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%v is not a file", name)
	}
	return info, err
}

// StatDir looks at a directory. What is none is an error.
func (t *Tree) StatDir(user, path string) (fs.FileInfo, error) {
	d, err := t.Root(user, path, false)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.Self()
}

// Mkdir makes a directory, unless it is there.
func (t *Tree) Mkdir(user, path string, durable bool) error {
	d, name, err := t.at(user, path, true)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Ensure(name, 0o700); err != nil || !durable {
		return err
	}
	return d.Sync()
}

// Rmdir removes a directory that has nothing in it.
func (t *Tree) Rmdir(user, path string) error {
	d, name, err := t.at(user, path, false)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.RemoveEmpty(name)
}

// Pending is a file on its way to its name.
type Pending struct {
	*rooted.Pending
	t    *Tree
	dir  *rooted.Dir
	name rooted.Name
}

// Create begins a file. What an earlier attempt with the same key has left is in it again.
func (t *Tree) Create(user, path, key string) (*Pending, error) {
	d, name, err := t.at(user, path, true)
	if err != nil {
		return nil, err
	}
	p, err := d.Create(name, key, true)
	if err != nil {
		d.Close()
		return nil, err
	}
	return &Pending{Pending: p, t: t, dir: d, name: name}, nil
}

// small is the size from which on a file is made durable by itself, in bytes.
const small = 1 << 20

// Batch gives files their names, for many small ones with two waits for the disk in all:
//
//	content is on the disk -> names -> names are on the disk
//
// commit gives one file its name, durable or not. It is called once for each, in order; what it
// returns is up to the caller to keep.
func (t *Tree) Batch(sizes []int64, commit func(i int, durable bool)) error {
	many := 0
	for _, size := range sizes {
		if size < small {
			many++
		}
	}
	flushed := false
	if many > 1 {
		var err error
		if flushed, err = t.root.Flush(); err != nil {
			return err
		}
	}
	for i, size := range sizes {
		commit(i, !flushed || size >= small)
	}
	if flushed {
		_, err := t.root.Flush()
		return err
	}
	return nil
}

// Keep ends the work on the file and leaves what has come for the next attempt.
func (p *Pending) Keep() error { return errors.Join(p.Pending.Keep(), p.dir.Close()) }

// Discard removes the file, unless it has its name.
func (p *Pending) Discard() error { return errors.Join(p.Pending.Discard(), p.dir.Close()) }

// SetAside gives what stands under the name another name, which says that it is one side of a
// conflict, and returns that. Then the file is written as if nothing had stood there. What stands
// there has to be what stood there: who calls has judged that.
func (p *Pending) SetAside(endpoint string, now time.Time) (as string, err error) {
	if err := p.Unchanged(); err != nil || !p.Replaces() {
		return "", err
	}
	for n := range mostConflicts {
		as = ConflictName(string(p.name.Bytes()), endpoint, now.Add(time.Duration(n)*time.Second))
		var name rooted.Name
		if name, err = rooted.LocalName(as); err != nil {
			return "", err
		}
		if err = p.dir.Rename(p.name, name); !errors.Is(err, fs.ErrExist) {
			break
		}
	}
	if err != nil {
		return "", err
	}
	return as, p.Again()
}

// Trash moves what stands under the name to the trash, and then the file is written as if nothing had
// stood there. Where there is no trash, the file takes the place of what stands there. As SetAside, it
// takes nothing that has come since.
func (p *Pending) Trash(user, path string, now time.Time) error {
	if !p.t.Keeps() || !p.Replaces() {
		return nil
	}
	if err := p.Unchanged(); err != nil {
		return err
	}
	if err := p.t.Trash(user, path, now); err != nil {
		return err
	}
	return p.Again()
}

// trashDisk is the size of flash, in bytes, from which on it has a trash.
const trashDisk = 64 << 20

// Keeps reports whether there is a trash: small flash has no room for it.
func (t *Tree) Keeps() bool { return !t.Disk.Flash || t.Disk.Size >= trashDisk }

// Trash moves a file to the trash, or removes it where there is none. One that is not there is no
// error.
func (t *Tree) Trash(user, path string, now time.Time) error {
	p, err := Path(user, path)
	switch {
	case err != nil:
	case !t.Keeps():
		err = t.Remove(user, path)
	default:
		err = trash.Keep(t.root, p, now)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = t.prune(now)
	}
	return err
}

// prunePause is how long the trash is left as it is: each look goes through all that is in it.
const prunePause = time.Minute

// prune removes from the trash what is old, or too much.
func (t *Tree) prune(now time.Time) error {
	t.pruning.Lock()
	defer t.pruning.Unlock()
	if since := now.Sub(t.pruned); 0 <= since && since < prunePause {
		return nil
	}
	t.pruned = now
	free, known := t.root.Free()
	if !known {
		return nil
	}
	return trash.Prune(t.root, now, int64(min(free, 1<<62))/trash.MaxShare)
}

// Root opens the directory of what a user has at or below a path. The caller closes it.
func (t *Tree) Root(user, path string, create bool) (*rooted.Dir, error) {
	p, err := rooted.ParsePath(strings.TrimSuffix("users/"+user+"/"+path, "/"))
	if err != nil {
		return nil, err
	}
	if create {
		return t.root.MkdirAt(p, 0o700)
	}
	return t.root.At(p)
}

// mostConflicts is how many names are tried for one side of a conflict.
const mostConflicts = 10

// ConflictName returns the name of the side of a conflict that loses:
// NAME.conflict-YYYYMMDD-HHMMSS-ENDPOINT.EXT.
func ConflictName(name, endpoint string, now time.Time) string {
	ext := filepath.Ext(name)
	if ext == name || len(ext) > 32 {
		ext = ""
	}
	mark := ".conflict-" + now.UTC().Format("20060102-150405") + "-" + endpoint
	base := strings.TrimSuffix(name, ext)
	for len(base)+len(mark)+len(ext) > rooted.MaxName {
		base = base[:len(base)-1]
	}
	return strings.ToValidUTF8(base, "") + mark + ext
}

// SetMode gives a file a mode, and returns what it is now: not every disk knows modes.
func (t *Tree) SetMode(user, path string, perm fs.FileMode) (fs.FileInfo, error) {
	d, name, err := t.at(user, path, false)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	if err := d.SetAttributes(name, perm, time.Time{}); err != nil {
		return nil, err
	}
	return d.Stat(name)
}

// Remove removes a file.
func (t *Tree) Remove(user, path string) error {
	d, name, err := t.at(user, path, false)
	if err != nil {
		return err
	}
	defer d.Close()
	if info, err := d.Stat(name); err != nil || !info.Mode().IsRegular() {
		return errors.Join(err, fmt.Errorf("%v is not a file", name))
	}
	return d.Remove(name)
}

// Walk calls a function for each file of a user, path by path. What is neither file nor directory,
// and what cannot be read or published, comes with an error.
func (t *Tree) Walk(user string, each func(path string, info fs.FileInfo, err error) error) error {
	p, err := rooted.ParsePath("users/" + user)
	if err != nil {
		return err
	}
	d, err := t.root.At(p)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Walk(func(_ *rooted.Dir, _ rooted.Name, p rooted.Path, info fs.FileInfo, err error) error {
		path := string(p.Bytes())
		switch _, bad := rooted.ParsePath(path); {
		case err != nil:
		case bad != nil:
			err = bad
		case info.IsDir():
			return nil
		case !info.Mode().IsRegular():
			err = fmt.Errorf("%v is not published: it is no file", p)
		}
		return each(path, info, err)
	})
}

// Room checks that a file of a size fits, and leaves some of the disk free.
func (t *Tree) Room(name string, size int64) error {
	if free, known := t.root.Free(); known && free < uint64(size) {
		return answer.Errorf(answer.Limit, "%s needs %d bytes, and the disk of %s has room for %d", name, size, t.dir, free)
	}
	return nil
}

// Trashed lists what is in the trash, the newest first. Paths are below the directory:
// "users/USER/PATH".
func (t *Tree) Trashed() ([]trash.Item, error) { return trash.List(t.root) }

// Sweep removes what downloads that nobody came back to since a time have left.
func (t *Tree) Sweep(before time.Time) error {
	if err := t.root.Sweep(before); err != nil {
		return err
	}
	return t.root.Walk(func(in *rooted.Dir, n rooted.Name, _ rooted.Path, info fs.FileInfo, err error) error {
		if err != nil || !info.IsDir() {
			return nil // others may be readable
		}
		sub, err := in.Sub(n)
		if err != nil {
			return nil
		}
		defer sub.Close()
		return sub.Sweep(before)
	})
}

// Restore puts a file from the trash back where it was. A file that stands there goes to the trash in
// turn; of that nothing is removed before the file is back: it could be the one.
func (t *Tree) Restore(i trash.Item, now time.Time) error {
	dir, name := i.Path.Split()
	in, err := t.root.At(dir)
	if err == nil {
		defer in.Close()
		var info fs.FileInfo
		if info, err = in.Stat(name); err == nil {
			if !info.Mode().IsRegular() {
				return answer.Errorf(answer.Conflict, "%v is not a file", name)
			}
			err = trash.Keep(t.root, i.Path, now)
		}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := trash.Restore(t.root, i); err != nil {
		return err
	}
	return t.prune(now)
}

// Perm is the mode of a file here: nobody else's, and never more than what was published.
func Perm(exec bool) fs.FileMode {
	if exec {
		return 0o700
	}
	return 0o600
}
