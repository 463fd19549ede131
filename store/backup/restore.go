package backup

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"ztm/store"
	"ztm/store/private"
)

// maxFile is the largest backup that is read, in bytes: a database and a header.
const maxFile = 1<<30 + 1<<20

// Kind is a database that can be backed up.
type Kind struct {
	Name   string // "hub" or "agent"; the file is NAME.db
	Schema []store.Migration

	// Merge prepares a database that is restored. old is the one that it takes the place of, or
	// nil: what is newer there about evictions and used tokens must not be lost.
	Merge func(restored, old *store.DB, now time.Time) error
}

// Write backs up the database of a kind in a data directory, also while it is in use. It never
// overwrites a file.
func (k Kind) Write(data, file, passphrase string, now time.Time) error {
	database, err := store.Snapshot(filepath.Join(data, k.Name+".db"))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no %s in %s: %w", k.Name, data, err)
	}
	if err != nil {
		return err
	}
	b, err := Encode(k.Name, database, passphrase, now)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(file))
	}
	return nil
}

// Read reads a backup file.
func Read(file, passphrase string) (Header, []byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return Header{}, nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(b) > maxFile {
		err = ErrNoBackup
	}
	if err != nil {
		return Header{}, nil, err
	}
	return Decode(b, passphrase)
}

// ErrExists is a restore to where a database is already.
var ErrExists = errors.New("there is a database already")

// Restore puts a database in a data directory. Over one that is there it takes force.
func (k Kind) Restore(data string, database []byte, force bool, log *slog.Logger, now time.Time) error {
	path := filepath.Join(data, k.Name+".db")
	if err := private.Dir(data); err != nil {
		return err
	}
	var old *store.DB
	_, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err // there may be one, whose evictions would be lost
	case !force:
		return fmt.Errorf("%s: %w", path, ErrExists)
	default:
		if old, err = store.Open(path, k.Schema, store.Options{Log: log}); err != nil && !errors.Is(err, store.ErrDamaged) {
			return err // in use, or of another user
		}
	}
	return store.Replace(path, database, k.Schema, store.Options{Log: log}, func(restored *store.DB) error {
		err := k.Merge(restored, old, now)
		if old != nil {
			err = errors.Join(err, old.Close()) // before its file is replaced
		}
		return err
	})
}
