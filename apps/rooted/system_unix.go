//go:build unix

package rooted

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

const (
	nonblock         = syscall.O_NONBLOCK // a pipe that nobody writes, a device that is not ready
	syncsDirectories = true
	renamesOpenFiles = true
)

// lock takes a file for one process alone. File systems without locks have none.
func lock(f *os.File) error {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == syscall.EWOULDBLOCK {
		return fmt.Errorf("%v: another process is writing it", f.Name())
	}
	return nil
}

// foreign reports whether a file has other names, and belongs to another account.
func foreign(info fs.FileInfo) bool {
	sys, ok := info.Sys().(*syscall.Stat_t)
	return ok && sys.Nlink > 1 && int(sys.Uid) != os.Geteuid()
}

// alone reports whether a file has one name and belongs to this account.
func alone(f *os.File) bool {
	st, err := f.Stat()
	if err != nil {
		return false
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	return ok && sys.Nlink == 1 && int(sys.Uid) == os.Geteuid()
}
