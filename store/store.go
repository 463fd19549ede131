// Package store keeps what a hub or an agent must remember: typed tables in one bbolt file.
//
// A table maps keys to values of one Go type, kept as JSON. All access happens inside a transaction, [DB.View] or
// [DB.Update]; nothing that leaves a transaction points into the mapped file.
//
//	var users = store.NewTable[User]("users")
//
//	db.Update(func(tx *store.Tx) error { return users.Put(tx, "bob", User{...}) })
//
// An Update that returned nil is on disk; one that failed changed nothing. Flash wears out: an Update that changes
// nothing writes nothing, and nothing here writes on its own account or on a timer.
//
// The file is trusted only after it was checked from end to end, because bbolt maps it into memory and a damaged
// file would end the process instead of giving an error.
package store

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"go.etcd.io/bbolt"
)

// Options are the optional parts of [Open]. The zero value is good for use.
type Options struct {
	LockTimeout time.Duration // how long to wait for another process to let go of the file; 0 means 1 s
	Log         *slog.Logger  // nil means discard
}

// DB is an open database. Its methods may be called from any goroutine.
type DB struct {
	path string
	bolt *bbolt.DB
}

// Tx is a transaction, valid only inside the function it was passed to and only in that function's goroutine.
type Tx struct {
	bolt    *bbolt.Tx
	changed bool // something was written: there is something to commit
}

// Open opens the database at path, creating the file with mode 0600 if there is none; its directory must exist. It
// brings the file to the current schema: schema[i] takes it from version i to i+1.
func Open(path string, schema []Migration, o Options) (*DB, error) {
	if o.LockTimeout == 0 {
		o.LockTimeout = time.Second
	}
	b, err := bbolt.Open(path, 0o600, &bbolt.Options{
		Timeout:        o.LockTimeout,
		PageSize:       4096,
		FreelistType:   bbolt.FreelistMapType,
		NoFreelistSync: true,
	})
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	db := &DB{path: path, bolt: b}
	if err := db.migrate(schema); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// InMemory reports whether the database works on a copy in RAM.
func (db *DB) InMemory() bool { return false }

// Close waits for running transactions and closes the file. Closing again does nothing.
func (db *DB) Close() error { return db.bolt.Close() }

// View runs fn in a transaction that sees one state of the database and cannot change it.
func (db *DB) View(fn func(*Tx) error) error {
	return db.bolt.View(func(tx *bbolt.Tx) error { return fn(&Tx{bolt: tx}) })
}

// Update runs fn in a transaction that may change the database; only one runs at a time. If fn returns an error,
// nothing is changed and Update returns that error.
func (db *DB) Update(fn func(*Tx) error) error {
	b, err := db.bolt.Begin(true)
	if err != nil {
		return fmt.Errorf("write %s: %w", db.path, err)
	}
	defer b.Rollback() // does nothing after Commit
	tx := &Tx{bolt: b}
	if err := fn(tx); err != nil {
		return err
	}
	if !tx.changed {
		return nil
	}
	if err := b.Commit(); err != nil {
		return fmt.Errorf("write %s: %w", db.path, err)
	}
	return nil
}
