package store

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"

	"ztm/store/private"
)

const (
	defaultLockTimeout = time.Second

	// lockPoll is how often a locked file is tried again: a fraction of the time in which a person
	// notices a delay.
	lockPoll = 50 * time.Millisecond
)

// Open opens the database at path and brings it to the current schema: schema[i] takes it from
// version i to i+1. It creates the file if there is none; its directory must exist. The file has,
// or gets, mode 0600. It stays locked until [DB.Close], so that one process at a time has it open.
//
// A file in use gives [ErrInUse]; one that is damaged or empty, [ErrDamaged]; one of another user,
// [private.ErrOwner]; one that a newer version wrote is refused; none of them is changed. A
// directory or file system that cannot be written gives fs.ErrPermission or syscall.EROFS: the
// caller may then turn to [OpenCopy].
func Open(path string, schema []Migration, o Options) (*DB, error) {
	return open(path, schema, o, system{mappable: mappable, disk: osDisk{}})
}

// OpenRAM opens a database that lives in RAM alone and is gone when it is closed, for systems whose
// root is read-only.
func OpenRAM(schema []Migration) (*DB, error) {
	b, err := openCopy(nil, 0)
	if err != nil {
		return nil, err
	}
	return migrated(&DB{path: "database in RAM", ram: true, bolt: b}, schema)
}

// OpenCopy opens, in RAM, what the file at path says, and an empty database if there is no such
// file. Changes are gone when it is closed. It is for a file system that is read-only. A file that
// is damaged, or of another user, is refused as [Open] refuses it: it must not look as if there
// were none.
func OpenCopy(path string, schema []Migration) (*DB, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return OpenRAM(schema)
	}
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	defer f.Close()
	size, err := check(f)
	if err != nil {
		return nil, err
	}
	if size == 0 {
		return nil, emptyError(path)
	}
	b, err := openCopy(f, size)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return migrated(&DB{path: path + " (a copy in RAM)", ram: true, bolt: b}, schema)
}

// system is what tests replace.
type system struct {
	mappable func(*os.File) bool
	disk     disk
}

func open(path string, schema []Migration, o Options, sys system) (*DB, error) {
	if o.LockTimeout == 0 {
		o.LockTimeout = defaultLockTimeout
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	f, created, err := acquire(path, o.LockTimeout)
	if err != nil {
		return nil, err
	}
	size, err := inspect(f, created, o.Log)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	db := &DB{path: path, created: created}
	if sys.mappable(f) {
		db.bolt, err = openFile(f, size, sys.disk)
	} else {
		o.Log.Info("file system cannot map files, working in RAM", "file", path)
		db.ram = true
		db.mirror, db.bolt, err = openMirror(f, size, sys.disk)
	}
	if err != nil {
		if created {
			discardTorn(path)
		}
		return nil, err
	}
	return migrated(db, schema)
}

// migrated returns db at the current schema, or closes it.
func migrated(db *DB, schema []Migration) (*DB, error) {
	if err := db.migrate(schema); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// acquire opens the file and locks it. It reports whether it has made the file.
func acquire(path string, wait time.Duration) (f *os.File, created bool, err error) {
	deadline := time.NewTimer(wait)
	defer deadline.Stop()
	poll := time.NewTicker(lockPoll)
	defer poll.Stop()
	for {
		f, made, err := openOrCreate(path)
		if err != nil {
			return nil, false, fmt.Errorf("open database: %w", err)
		}
		created = created || made
		err = tryLock(f)
		if err == nil && current(f, path) {
			return f, created, nil
		}
		f.Close()
		if err != nil && !errors.Is(err, errLocked) {
			return nil, false, fmt.Errorf("lock %s: %w", path, err)
		}
		select {
		case <-poll.C:
		case <-deadline.C:
			return nil, false, fmt.Errorf("%w %s: end it, or choose another directory with --data", ErrInUse, path)
		}
	}
}

// InUse reports whether another process has the database at path open. It changes nothing, and does
// not wait.
func InUse(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close() // a lock that was free is free again
	return errors.Is(tryLock(f), errLocked)
}

// openOrCreate opens the file, or makes it if there is none.
func openOrCreate(path string) (f *os.File, created bool, err error) {
	f, err = os.OpenFile(path, os.O_RDWR, 0)
	if !errors.Is(err, fs.ErrNotExist) {
		return f, false, err
	}
	// Not O_EXCL, which refuses a symbolic link to a file that is not there yet. If somebody else
	// makes the file in this moment, the lock says whose it is, and what they wrote that it is not
	// new.
	f, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	return f, err == nil, err
}

// current reports whether f is still the file at path: the previous holder of the lock may have
// replaced it.
func current(f *os.File, path string) bool {
	mine, err := f.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(path)
	return err == nil && os.SameFile(mine, there)
}

// inspect checks the file before anything relies on it, and makes it private. It returns its size
// in bytes; 0 is a new file.
func inspect(f *os.File, created bool, log *slog.Logger) (int64, error) {
	size, err := check(f)
	if err != nil {
		return 0, err
	}
	if size == 0 && !created {
		return 0, emptyError(f.Name())
	}
	info, err := f.Stat()
	if err != nil {
		return 0, fmt.Errorf("open database: %w", err)
	}
	if !isPrivate(info) {
		log.Warn("database was open to others, mode is 0600 now", "file", f.Name(), "mode", info.Mode().Perm().String())
	}
	if err := protect(f, info); err != nil {
		return 0, fmt.Errorf("make the database private: %w", err)
	}
	return size, nil
}

// check checks the kind of the file, its owner and its content. It returns its size in bytes; an
// empty file is good.
func check(f *os.File) (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, fmt.Errorf("open database: %w", err)
	}
	if !info.Mode().IsRegular() {
		return 0, fmt.Errorf("%s: not a regular file", f.Name())
	}
	if err := private.CheckOwner(info); err != nil && private.KeepsOwners(filepath.Dir(f.Name())) {
		return 0, fmt.Errorf("%s: %w", f.Name(), err)
	}
	if info.Size() == 0 {
		return 0, nil
	}
	if err := verify(f, info.Size()); err != nil {
		return 0, fmt.Errorf("%s: %w: %v; %s", f.Name(), ErrDamaged, err, wayOut)
	}
	return info.Size(), nil
}

const wayOut = "move the file away: an agent then joins its meshes again, a hub is set up again from a backup or from its root permit"

// emptyError refuses a file without content, which must not pass for that of a new device.
func emptyError(path string) error {
	return fmt.Errorf("%s: %w: it is empty, as a power cut can leave it; %s", path, ErrDamaged, wayOut)
}

// openFile opens the database in the file itself and takes f over: it is closed with the database,
// or at once after an error.
func openFile(f *os.File, size int64, d disk) (*bbolt.DB, error) {
	path := f.Name()
	b, err := bbolt.Open(path, 0o600, boltOptions(f))
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	if size == 0 { // bbolt syncs what is in the file, but not that there is one
		if err := d.syncDir(filepath.Dir(path)); err != nil {
			return nil, errors.Join(fmt.Errorf("create %s: %w", path, err), b.Close())
		}
	}
	return b, nil
}

// boltOptions are the options for a database in f, which is locked already: bbolt's own lock never
// waits.
func boltOptions(f *os.File) *bbolt.Options {
	return &bbolt.Options{
		OpenFile:       func(string, int, fs.FileMode) (*os.File, error) { return f, nil },
		Timeout:        defaultLockTimeout,
		PageSize:       pageSize,
		FreelistType:   bbolt.FreelistMapType,
		NoFreelistSync: true, // a list of free pages with every commit would be one more page on flash
	}
}

// discardTorn removes a file whose creation failed half way, on a full disk for example: the next
// attempt should not find it damaged. What another process may have made of it in the meantime
// stays.
func discardTorn(path string) {
	f, _, err := acquire(path, lockPoll)
	if err != nil {
		return
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && (info.Size() == 0 || verify(f, info.Size()) != nil) {
		remove(f, path)
	}
}
