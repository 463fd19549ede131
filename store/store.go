// Package store keeps what a hub or an agent must remember: typed tables in one bbolt file.
//
// A table maps keys to values of one Go type, kept as JSON. All access happens inside a
// transaction, [DB.View] or [DB.Update]; nothing that leaves a transaction points into the mapped
// file.
//
//	var users = store.NewTable[User]("users")
//
//	err := db.Update(func(tx *store.Tx) error { return users.Put(tx, "bob", User{Name: "Bob"}) })
//
// An Update that returned nil is on disk; one that failed changed nothing. Flash wears out: an
// Update that changes nothing writes nothing, and nothing here writes on its own account or on a
// timer.
//
// The file is read and checked from end to end before bbolt gets to see it (verify.go), because
// bbolt maps it into memory, where a damaged file ends the process instead of giving an error.
// Where the file cannot be mapped, which is the rule on the flash of routers, the database lives in
// RAM and the file is replaced after every change (mirror.go).
package store

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"go.etcd.io/bbolt"
)

// ErrInUse is returned by [Open] when another process keeps the file locked.
var ErrInUse = errors.New("another hub or agent is using")

// ErrDamaged is returned by [Open] for a file that is not, or no longer, a whole database.
var ErrDamaged = errors.New("damaged, or not a database of ztm")

// Options are the optional parts of [Open]. The zero value is good for use.
type Options struct {
	LockTimeout time.Duration // how long to wait for another process to let go of the file; 0 means 1 s
	Log         *slog.Logger  // nil means discard
}

// DB is an open database. Its methods may be called from any goroutine.
type DB struct {
	// Static after construction.
	path    string
	ram     bool    // bolt lives in RAM
	created bool    // Open made the file
	mirror  *mirror // where RAM is copied to; nil where bolt is the file itself, or where there is none

	// writer is held through the whole of Update.
	writer sync.Mutex

	// mu is held for reading through View, and for writing while RAM is ahead of the file. It
	// guards bolt, which is replaced, with writer held as well, when RAM has to go back to what the
	// file says.
	mu   sync.RWMutex
	bolt *bbolt.DB
}

// Tx is a transaction, valid only inside the function it was passed to and only in that function's
// goroutine.
type Tx struct {
	bolt    *bbolt.Tx
	changed bool // there is something to commit
}

// InMemory reports whether the database works in RAM: because it came from [OpenRAM], or because
// the file system cannot map files; the file is then replaced after every change, and an Update
// that returned nil is on disk all the same.
func (db *DB) InMemory() bool { return db.ram }

// Close waits for running transactions and closes the file. Closing again does nothing.
func (db *DB) Close() error {
	db.writer.Lock()
	defer db.writer.Unlock()
	db.mu.Lock()
	defer db.mu.Unlock()
	err := db.bolt.Close()
	if db.mirror != nil {
		err = errors.Join(err, db.mirror.close())
	}
	if db.created {
		discardTorn(db.path) // where nothing was ever written, there is a file without content
	}
	return err
}

// View runs fn in a transaction that sees one state of the database and cannot change it. It
// returns fn's error. fn must be brief, since it may hold up writers, and must not start another
// transaction.
func (db *DB) View(fn func(*Tx) error) error {
	db.mu.RLock()
	defer db.mu.RUnlock()
	b, err := db.bolt.Begin(false)
	if err != nil {
		return fmt.Errorf("read %s: %w", db.path, err)
	}
	defer b.Rollback()
	return fn(&Tx{bolt: b})
}

// Update runs fn in a transaction that may change the database; only one runs at a time. If fn
// returns an error, nothing is changed and Update returns that error. If fn changed nothing,
// nothing is written. fn must be brief and must not start another transaction.
//
// When the disk is full or fails, Update returns an error and the database is as it was, on disk
// and for readers. One case is uncertain: the change was written, but the disk failed to confirm
// that it will survive a power cut.
func (db *DB) Update(fn func(*Tx) error) error {
	db.writer.Lock()
	defer db.writer.Unlock()
	b, err := db.bolt.Begin(true)
	if err != nil {
		return fmt.Errorf("write %s: %w", db.path, err)
	}
	defer b.Rollback() // does nothing after the commit
	tx := &Tx{bolt: b}
	if err := fn(tx); err != nil {
		return err
	}
	if !tx.changed {
		return nil
	}
	if err := db.commit(b); err != nil {
		return fmt.Errorf("write %s: %w", db.path, err)
	}
	return nil
}

// commit makes the changes of b last, and visible to readers only once they do.
func (db *DB) commit(b *bbolt.Tx) error {
	if db.mirror == nil {
		return b.Commit()
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	if err := b.Commit(); err != nil {
		return err
	}
	if err := db.mirror.replace(db.bolt); err != nil {
		return errors.Join(err, db.reloadLocked())
	}
	return nil
}

// reloadLocked makes RAM say what the file says. If it fails, the database is closed: it must not
// show readers a state that the disk has refused.
func (db *DB) reloadLocked() error {
	db.bolt.Close()
	fresh, err := db.mirror.load()
	if err != nil {
		return fmt.Errorf("go back to the last state: %w", err)
	}
	db.bolt = fresh
	return nil
}
