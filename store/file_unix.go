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

// mappable reports whether the file system can map f in the way that bbolt does. JFFS2, 9p and FUSE without a cache cannot.
func mappable(f *os.File) bool {
	b, err := unix.Mmap(int(f.Fd()), 0, pageSize, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		// Any other error is bbolt's to report.
		return !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENODEV)
	}
	unix.Munmap(b)
	return true
}

// checkOwner refuses a file that somebody else could have written.
func checkOwner(info fs.FileInfo) error {
	s, ok := info.Sys().(*syscall.Stat_t)
	if ok && int(s.Uid) != os.Geteuid() && info.Mode().Perm()&0o022 != 0 {
		return errors.New("belongs to another user and others may write it")
	}
	return nil
}

// private reports whether the mode keeps everybody but the owner out.
func private(info fs.FileInfo) bool { return info.Mode().Perm()&0o077 == 0 }

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
