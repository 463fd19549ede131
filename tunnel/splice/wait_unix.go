//go:build unix

package splice

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// waiter waits for one socket.
type waiter struct {
	raw   syscall.RawConn
	look  func(fd uintptr) bool // is ready, bound once
	again bool                  // the poller has woken us: it knows
}

func waiterOf(c syscall.Conn) func() {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil
	}
	w := &waiter{raw: raw}
	w.look = w.ready
	return w.wait
}

func (w *waiter) wait() {
	w.again = false
	w.raw.Read(w.look) // a failure is met again by Read
}

// ready reports whether to return. What came before the wait began nobody would announce.
func (w *waiter) ready(fd uintptr) bool {
	if w.again {
		return true
	}
	w.again = true
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	return n != 0 || err != nil
}
