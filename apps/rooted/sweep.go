package rooted

import (
	"errors"
	"io"
	"os"
	"strings"
	"time"
)

// Sweep removes from d, and not from what is below it, the files of interrupted writers that nobody
// has come back to since a time: see [Pending]. What is being written, and what is no file, stays.
func (d *Dir) Sweep(before time.Time) error {
	f, err := d.r.Open(".")
	if err != nil {
		return err
	}
	defer f.Close()
	for {
		names, err := f.Readdirnames(256)
		for _, s := range names {
			if strings.HasPrefix(s, own+"-") && strings.HasSuffix(s, part) {
				d.sweep(Name{s}, before)
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// part ends the names of files that are being written.
const part = ".part"

// sweep removes one file if it is old, and of nobody who writes. Otherwise it is lost room, and no
// more.
func (d *Dir) sweep(n Name, before time.Time) {
	info, err := d.r.Lstat(n.s)
	if err != nil || !info.Mode().IsRegular() || !info.ModTime().Before(before) {
		return
	}
	f, err := d.open(n, os.O_RDWR)
	if err != nil {
		return
	}
	defer f.Close()
	p := &Pending{dir: d, name: n, temp: n.s}
	if lock(f) == nil && p.same(f) == nil {
		d.r.Remove(n.s)
	}
}
