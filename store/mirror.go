package store

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"go.etcd.io/bbolt"
)

// mirror keeps a file equal to a database in RAM, on file systems that cannot map files as bbolt
// needs it (JFFS2 and overlays on it, 9p, some FUSE). The file is replaced as a whole, and at every
// moment either the old or the new one is there, whole:
//
//  1. create   FILE.new, which nobody else may have (a leftover of a power cut was removed when the file was opened)
//  2. write    the whole database
//  3. sync     so that the name never leads to bytes that are not on flash
//  4. lock     before others can open it
//  5. rename   FILE.new to FILE
//  6. sync the directory, so that the change is on flash when Update returns
//
// It is not safe for concurrent use: DB.writer serialises it.
type mirror struct {
	path string // of the file, symbolic links resolved: a rename must not replace a link
	disk disk
	held io.Closer // the file that is at path now, locked; nil when closed
}

// disk is the part of a file system that replacing a file takes.
type disk interface {
	create(path string) (diskFile, error) // fails if path exists
	rename(from, to string) error
	remove(path string) error
	syncDir(path string) error
}

// diskFile is a file that is being written.
type diskFile interface {
	io.WriteCloser
	Sync() error
	lock() error
}

// openMirror takes over f, which is locked and checked, and opens its content in RAM.
func openMirror(f *os.File, size int64, d disk) (*mirror, *bbolt.DB, error) {
	path, err := filepath.EvalSymlinks(f.Name())
	if err != nil {
		f.Close()
		return nil, nil, fmt.Errorf("open database: %w", err)
	}
	m := &mirror{path: path, disk: d, held: f}
	d.remove(m.temporary()) // fails if there is no leftover, which is the rule
	b, err := openCopy(f, size)
	if err != nil {
		f.Close()
		return nil, nil, fmt.Errorf("open %s: %w", path, err)
	}
	return m, b, nil
}

func (m *mirror) temporary() string { return m.path + ".new" }

// replace puts the last committed state of b in the place of the file.
func (m *mirror) replace(b *bbolt.DB) error {
	f, err := m.write(b)
	if err != nil {
		m.disk.remove(m.temporary())
		return err
	}
	if err := m.disk.rename(m.temporary(), m.path); err != nil {
		f.Close()
		m.disk.remove(m.temporary())
		return err
	}
	m.held.Close()
	m.held = f
	return m.disk.syncDir(filepath.Dir(m.path))
}

// write makes the temporary file: whole, on flash, and locked.
func (m *mirror) write(b *bbolt.DB) (diskFile, error) {
	f, err := m.disk.create(m.temporary())
	if err != nil {
		return nil, err
	}
	w := &causeWriter{Writer: f}
	err = b.View(func(tx *bbolt.Tx) error {
		_, err := tx.WriteTo(w)
		return cmp.Or(w.cause, err)
	})
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = f.lock()
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// causeWriter keeps the error of a writer, of which bbolt passes on the text alone.
type causeWriter struct {
	io.Writer
	cause error
}

func (w *causeWriter) Write(b []byte) (n int, err error) {
	n, w.cause = w.Writer.Write(b)
	return n, w.cause
}

// load opens in RAM what the file says now.
func (m *mirror) load() (*bbolt.DB, error) {
	f, err := os.Open(m.path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if err := verify(f, info.Size()); info.Size() > 0 && err != nil {
		return nil, err
	}
	return openCopy(f, info.Size())
}

func (m *mirror) close() error {
	if m.held == nil {
		return nil
	}
	err := m.held.Close()
	m.held = nil
	return err
}

// openCopy opens, in RAM, a copy of a database of size bytes; size 0 makes a new one.
func openCopy(from io.ReaderAt, size int64) (*bbolt.DB, error) {
	f, err := ramFile()
	if err != nil {
		return nil, fmt.Errorf("make a file in RAM: %w", err)
	}
	if size > 0 {
		if _, err := io.Copy(f, io.NewSectionReader(from, 0, size)); err != nil {
			f.Close()
			return nil, fmt.Errorf("copy to RAM: %w", err)
		}
	}
	o := boltOptions(f)
	o.NoSync = true // it is RAM
	return bbolt.Open(f.Name(), 0o600, o)
}

// osDisk is the real file system.
type osDisk struct{}

type osFile struct{ *os.File }

func (f osFile) lock() error { return tryLock(f.File) }

func (osDisk) create(path string) (diskFile, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osDisk) rename(from, to string) error { return os.Rename(from, to) }
func (osDisk) remove(path string) error     { return os.Remove(path) }
func (osDisk) syncDir(path string) error    { return syncDir(path) }
