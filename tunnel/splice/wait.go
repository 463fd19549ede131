package splice

import (
	"io"
	"net"
)

// Waiter returns a function that waits until r has something to say: bytes, its end or a failure,
// which Read then returns. So a reader needs no buffer while nothing comes, and little stack. The
// function may return too early. It is nil where r can only be waited for by Read. A wrapper has a
// method that returns the connection from which its bytes come, or nil while it has some itself.
func Waiter(r io.Reader) func() {
	switch r := r.(type) {
	case interface{ ReadsFrom() net.Conn }:
		return Waiter(r.ReadsFrom())
	case *net.TCPConn:
		return waiterOf(r)
	case *net.UnixConn:
		return waiterOf(r)
	}
	return nil
}
