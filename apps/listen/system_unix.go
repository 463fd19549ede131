//go:build unix

package listen

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// MaxPath is the longest path of a unix socket on this system, in bytes: what sun_path holds before
// its closing zero.
const MaxPath = len(syscall.RawSockaddrUnix{}.Path) - 1

// Error numbers of the system, by meaning.
var (
	errsInUse     = []syscall.Errno{syscall.EADDRINUSE}
	errsNoAddress = []syscall.Errno{syscall.EADDRNOTAVAIL}
	errsRefused   = []syscall.Errno{syscall.ECONNREFUSED}
)

// controlPrivate makes a unix socket private before it gets its name, so that there is no moment at
// which others may connect to it. Where the system has no such thing, the change of mode that
// follows must do.
func controlPrivate(_, _ string, c syscall.RawConn) error {
	return c.Control(func(fd uintptr) { unix.Fchmod(int(fd), 0o600) })
}

// InlineUrgent is the Control of a listener or dialer whose connections deliver urgent bytes in
// their place among the others. Without it the system takes the last of them out of the stream, and
// it is lost (RFC 6093 section 6).
func InlineUrgent(_, _ string, c syscall.RawConn) error {
	return c.Control(func(fd uintptr) { unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_OOBINLINE, 1) })
}
