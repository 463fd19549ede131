//go:build unix

package tunnel

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// controlPrivate makes a unix socket private before it gets its name, so that there is no moment at which others may
// connect to it. Where the system has no such thing, the change of mode that follows must do.
func controlPrivate(_, _ string, c syscall.RawConn) error {
	return c.Control(func(fd uintptr) { unix.Fchmod(int(fd), 0o600) })
}
