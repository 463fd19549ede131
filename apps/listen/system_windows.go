package listen

import (
	"syscall"

	"golang.org/x/sys/windows"
)

// MaxPath is the longest path of a unix socket on this system, in bytes: what sun_path holds before
// its closing zero.
const MaxPath = len(syscall.RawSockaddrUnix{}.Path) - 1

// soOOBInline is SO_OOBINLINE of winsock2.h.
const soOOBInline = 0x100

// Error numbers of the system, by meaning.
var (
	errsInUse     = []syscall.Errno{windows.WSAEADDRINUSE, windows.WSAEACCES}
	errsNoAddress = []syscall.Errno{windows.WSAEADDRNOTAVAIL}
	errsRefused   = []syscall.Errno{windows.WSAECONNREFUSED}
)

// controlPrivate does nothing: on Windows a socket has the access list of its directory.
func controlPrivate(_, _ string, _ syscall.RawConn) error { return nil }

// InlineUrgent is the Control of a listener or dialer whose connections deliver urgent bytes in
// their place among the others. Without it the system takes the last of them out of the stream, and
// it is lost (RFC 6093 section 6).
func InlineUrgent(_, _ string, c syscall.RawConn) error {
	return c.Control(func(fd uintptr) {
		syscall.SetsockoptInt(syscall.Handle(fd), syscall.SOL_SOCKET, soOOBInline, 1)
	})
}
