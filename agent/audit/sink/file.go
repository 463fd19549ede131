package sink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"ztm/agent/audit"
	"ztm/apps/rooted"
	"ztm/store/private"
)

// file is a file of lines of JSON. When it is full it becomes NAME.1, and what was that NAME.2.
type file struct {
	path string
	size int64 // at which a new one is begun
	keep int   // this one included
	f    *os.File
	at   int64 // its length
}

// A disk that is written each second wears out; at most a second is lost with the power.
func (w *file) gathers() time.Duration { return time.Second }

var errFull = errors.New("there is too little room on the disk")

func (w *file) write(_ context.Context, batch []audit.Entry) error {
	if err := w.open(); err != nil {
		return err
	}
	var b bytes.Buffer
	for _, e := range batch {
		b.Write(e.Text)
		b.WriteByte('\n')
	}
	if w.at > 0 && w.at+int64(b.Len()) > w.size {
		if err := w.rotate(); err != nil {
			return err
		}
	}
	n, err := w.f.Write(b.Bytes())
	if err != nil { // a part of a line must not stay: what follows would be no line either
		return errors.Join(err, w.f.Truncate(w.at))
	}
	w.at += int64(n)
	return nil
}

// open opens the file if it is not, and refuses while the disk is nearly full.
func (w *file) open() error {
	dir := filepath.Dir(w.path)
	if err := private.Dir(dir); err != nil {
		return err
	}
	if err := room(dir); err != nil || w.f != nil {
		return err
	}
	f, err := os.OpenFile(w.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return err
	}
	w.f, w.at = f, info.Size()
	return nil
}

// room returns an error if the file system has no room left but what it must keep.
func room(dir string) error {
	d, err := rooted.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if free, known := d.Free(); known && free == 0 {
		return errFull
	}
	return nil
}

// rotate begins a new file.
func (w *file) rotate() error {
	if err := w.close(); err != nil {
		return err
	}
	name := func(n int) string { return w.path + "." + strconv.Itoa(n) }
	for n := w.keep - 1; n > 0; n-- {
		from := w.path
		if n > 1 {
			from = name(n - 1)
		}
		if err := os.Rename(from, name(n)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if w.keep <= 1 {
		if err := os.Remove(w.path); err != nil {
			return err
		}
	}
	return w.open()
}

func (w *file) close() error {
	if w.f == nil {
		return nil
	}
	f := w.f
	w.f = nil
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("%s: %w", w.path, err)
	}
	return nil
}
