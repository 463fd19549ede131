//go:build unix

package store

import (
	"errors"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// errLocked is what tryLock returns when another process holds the lock.
const errLocked = syscall.EWOULDBLOCK

// tryLock locks f for this process alone, until f is closed.
func tryLock(f *os.File) error {
	return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
}

// mappable reports whether the file system can map f in the way that bbolt does. JFFS2, 9p and FUSE
// without a cache cannot.
func mappable(f *os.File) bool {
	b, err := unix.Mmap(int(f.Fd()), 0, pageSize, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		// Any other error is bbolt's to report.
		return !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENODEV)
	}
	unix.Munmap(b)
	return true
}

// isPrivate reports whether the mode keeps everybody but the owner out.
func isPrivate(info fs.FileInfo) bool { return info.Mode().Perm()&0o077 == 0 }

// protect keeps everybody but the owner out.
func protect(f *os.File, info fs.FileInfo) error {
	if isPrivate(info) {
		return nil
	}
	return f.Chmod(0o600)
}

// remove removes a file that is open.
func remove(_ *os.File, path string) { os.Remove(path) }

// syncDir makes the names in a directory last. File systems that cannot do this answer EINVAL.
func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, unix.EINVAL) {
		return err
	}
	return nil
}

// namelessFile makes a file in the directory for temporary files that is gone when it is closed.
func namelessFile() (*os.File, error) {
	f, err := os.CreateTemp("", "ztm-")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
