// Package trash keeps what somebody else's change has replaced or deleted: a way back.
//
//	ROOT/docs/a.txt -> ROOT/.ztm-trash/20261129-010203/docs/a.txt
//
// It is on the same file system as the files, so that keeping a file is renaming it. What is old goes,
// and the oldest goes first where there is too much.
package trash

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"ztm/apps/rooted"
)

// Limits of what is kept.
const (
	MaxAge   = 30 * 24 * time.Hour
	MaxShare = 10 // a tenth of the disk
)

const stamp = "20060102-150405"

// Item is a file in the trash.
type Item struct {
	Since time.Time   `json:"since"`
	Path  rooted.Path `json:"-"` // below the root
	Size  int64       `json:"size"`

	at rooted.Path // below the trash
}

var name = rooted.Own("trash")

// open opens the trash of a root, and makes it where there is none.
func open(root *rooted.Dir) (*rooted.Dir, error) {
	if err := root.Mkdir(name, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return root.Sub(name)
}

// Keep moves the file at a path into the trash.
func Keep(root *rooted.Dir, p rooted.Path, now time.Time) error {
	bin, err := open(root)
	if err != nil {
		return err
	}
	defer bin.Close()
	dir, n := p.Split()
	from, err := root.At(dir)
	if err != nil {
		return err
	}
	defer from.Close()
	for i := range 100 {
		day := now.UTC().Format(stamp)
		if i > 0 {
			day = fmt.Sprintf("%s-%d", day, i)
		}
		if err = keepIn(bin, day, dir, from, n); !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return err
}

func keepIn(bin *rooted.Dir, day string, dir rooted.Path, from *rooted.Dir, n rooted.Name) error {
	to, err := rooted.LocalPath(strings.TrimSuffix(day+"/"+string(dir.Bytes()), "/"))
	if err != nil {
		return err
	}
	in, err := bin.MkdirAt(to, 0o700)
	if err != nil {
		return err
	}
	defer in.Close()
	return from.Move(n, in, n)
}

// List returns what is in the trash, the newest first.
func List(root *rooted.Dir) ([]Item, error) {
	bin, err := root.Sub(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer bin.Close()
	var all []Item
	err = bin.Walk(func(_ *rooted.Dir, _ rooted.Name, p rooted.Path, info fs.FileInfo, err error) error {
		if err != nil || info.IsDir() {
			return nil // what cannot be read cannot be restored
		}
		day, rest, ok := strings.Cut(string(p.Bytes()), "/")
		since, terr := time.Parse(stamp, day[:min(len(day), len(stamp))])
		path, perr := rooted.LocalPath(rest)
		if ok && terr == nil && perr == nil {
			all = append(all, Item{since, path, info.Size(), p})
		}
		return nil
	})
	slices.SortStableFunc(all, func(a, b Item) int { return b.Since.Compare(a.Since) })
	return all, err
}

// Restore moves a file back to where it was. Where something else is by now it is an error.
func Restore(root *rooted.Dir, i Item) error {
	bin, err := open(root)
	if err != nil {
		return err
	}
	defer bin.Close()
	dir, n := i.at.Split()
	from, err := bin.At(dir)
	if err != nil {
		return err
	}
	defer from.Close()
	back, _ := i.Path.Split()
	to, err := root.MkdirAt(back, 0o700)
	if err != nil {
		return err
	}
	defer to.Close()
	return from.Move(n, to, n)
}

// Prune removes what is older than [MaxAge], and then the oldest until the rest has at most so many
// bytes.
func Prune(root *rooted.Dir, now time.Time, most int64) error {
	all, err := List(root)
	if err != nil || len(all) == 0 {
		return err
	}
	bin, err := open(root)
	if err != nil {
		return err
	}
	defer bin.Close()
	var sum int64
	gone := map[string]bool{}
	for _, i := range all { // the newest first
		sum += i.Size
		day, _, _ := strings.Cut(string(i.at.Bytes()), "/")
		if now.Sub(i.Since) > MaxAge || sum > most {
			gone[day] = true
		}
	}
	for day := range gone {
		n, err := rooted.LocalName(day)
		if err == nil {
			err = bin.RemoveAll(n)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
