package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Snapshot returns the content of the database file at path as of one moment, also while another
// process has it open and writes to it. A damaged file is [ErrDamaged].
//
// bbolt never changes a page that the newest meta leads to: a commit writes other pages, and then
// one of the two metas. If both metas are the same after the file was read as before, what was read
// is what they lead to.
func Snapshot(path string) ([]byte, error) {
	for range snapshotTries {
		b, err := snapshot(path)
		if !errors.Is(err, errChanged) {
			return b, err
		}
	}
	return nil, fmt.Errorf("%s is written to all the time", path)
}

// snapshotTries is how often a file is read again that was written to meanwhile. Hubs and agents
// write a few times a minute at most, and reading takes a part of a second.
const snapshotTries = 20

var errChanged = errors.New("the file was written to")

func snapshot(path string) ([]byte, error) {
	f, err := os.Open(path) // the mirror of a file system that cannot be mapped replaces the file: this one stays
	if err != nil {
		return nil, err
	}
	defer f.Close()
	before, err := readMetas(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	after, err := readMetas(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if !bytes.Equal(before, after) || !bytes.Equal(before, b[:min(len(before), len(b))]) {
		return nil, errChanged
	}
	if err := verify(bytes.NewReader(b), int64(len(b))); err != nil {
		return nil, fmt.Errorf("%s: %w: %v", path, ErrDamaged, err)
	}
	return b, nil
}

func readMetas(f *os.File) ([]byte, error) {
	b := make([]byte, 2*pageSize)
	n, err := f.ReadAt(b, 0)
	if errors.Is(err, io.EOF) {
		err = ErrDamaged // shorter than any database
	}
	return b[:n], err
}

// Replace puts a database in the place of the file at path: whole or not at all, mode 0600, and on
// disk when it returns. The file must not be open, see [InUse]. prepare changes the new database
// first.
func Replace(path string, content []byte, schema []Migration, o Options, prepare func(*DB) error) error {
	if err := verify(bytes.NewReader(content), int64(len(content))); err != nil {
		return fmt.Errorf("%w: %v", ErrDamaged, err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".restore-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // does nothing after the rename
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	db, err := Open(f.Name(), schema, o)
	if err != nil {
		return err
	}
	if err := errors.Join(prepare(db), db.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}
