//go:build !windows

package direct

import (
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// Reuse lets other connections have the port of a socket that is not bound yet.
func Reuse(rc syscall.RawConn) error {
	var err error
	if e := rc.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
		if err == nil && runtime.GOOS != "linux" {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
		}
	}); e != nil {
		return e
	}
	return err
}
