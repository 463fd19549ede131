package tunnel

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// setUserTimeout lets the kernel give up a connection whose data stays unacknowledged for d (RFC
// 5482); its own limit, which it has where d is zero, is about 15 minutes.
func setUserTimeout(rc syscall.RawConn, d time.Duration) error {
	var err error
	if e := rc.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(d.Milliseconds()))
	}); e != nil {
		return e
	}
	return err
}
