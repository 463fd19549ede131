package tunnel

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// setUserTimeout lets the kernel give up a connection whose data stays unacknowledged (RFC 5482) for DeadPeerTimeout;
// its own patience is about 15 minutes.
func setUserTimeout(rc syscall.RawConn) error {
	var err error
	if e := rc.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(DeadPeerTimeout.Milliseconds()))
	}); e != nil {
		return e
	}
	return err
}
