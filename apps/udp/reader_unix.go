//go:build unix

package udp

import (
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// taker returns what waits until a socket can be read, and takes a buffer only then. It is nil for
// a socket that is closed.
func taker(c *net.UDPConn) func() (*[]byte, int, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil
	}
	return func() (buf *[]byte, n int, err error) {
		failed := raw.Read(func(fd uintptr) (done bool) {
			buf = buffers.Get().(*[]byte)
			for n, err = unix.Read(int(fd), *buf); err == unix.EINTR; n, err = unix.Read(int(fd), *buf) {
			}
			if err == unix.EAGAIN {
				buffers.Put(buf)
				buf = nil
				return false
			}
			return true
		})
		if failed != nil {
			return buf, 0, failed
		}
		return buf, n, os.NewSyscallError("read", err)
	}
}
