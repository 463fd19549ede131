package store

import (
	"crypto/rand"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/windows"

	"ztm/store/private"
)

// errLocked is what tryLock returns when another process holds the lock.
const errLocked = windows.ERROR_LOCK_VIOLATION

// tryLock locks f for this process alone, until f is closed. Locks are mandatory on Windows and do
// not nest: it takes a byte far behind the end of the file, and not the one that bbolt takes (the
// very last).
func tryLock(f *os.File) error {
	at := &windows.Overlapped{Offset: 1<<32 - 2, OffsetHigh: 1<<32 - 1}
	const flags = windows.LOCKFILE_EXCLUSIVE_LOCK | windows.LOCKFILE_FAIL_IMMEDIATELY
	return windows.LockFileEx(windows.Handle(f.Fd()), flags, 0, 1, 0, at)
}

// mappable reports that every file system of Windows can map files.
func mappable(*os.File) bool { return true }

// isPrivate reports true: the mode says nothing on Windows.
func isPrivate(fs.FileInfo) bool { return true }

// protect keeps everybody but the user of this process, the system and the administrators out.
func protect(f *os.File, _ fs.FileInfo) error { return private.File(f.Name()) }

// remove removes a file that is open. Windows wants it closed first.
func remove(f *os.File, path string) {
	f.Close()
	os.Remove(path)
}

// syncDir does nothing: Windows cannot sync a directory, and never replaces a file in this way (see
// mappable).
func syncDir(string) error { return nil }

// ramFile makes a nameless file. Windows has none in RAM: it keeps a temporary one there as long as
// it can, and deletes it when it is closed, also when the process is killed.
func ramFile() (*os.File, error) {
	name := filepath.Join(os.TempDir(), "ztm-"+rand.Text())
	return os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL|windows.FILE_FLAG_DELETE_ON_CLOSE, 0o600)
}
