package state

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"syscall"
)

// NeedsPlace adds a hint to the error for a data directory that cannot be written. An agent runs
// from RAM there, with a warning. A hub does not: after the next boot it would have another key,
// and it would have forgotten who was evicted.
func NeedsPlace(data string, err error) error {
	var at *fs.PathError
	if !errors.As(err, &at) || !errors.Is(err, syscall.EROFS) && !errors.Is(err, fs.ErrPermission) {
		return err
	}
	// MkdirAll may have failed above the data directory.
	if !within(data, at.Path) && !within(at.Path, data) {
		return err // an error of the permit, or of a port below 1024
	}
	return fmt.Errorf("%w: a hub has to keep its key and who was evicted: name a directory on a disk that it can write with --data", err)
}

// within reports whether path is dir or below it.
func within(dir, path string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && filepath.IsLocal(rel)
}
