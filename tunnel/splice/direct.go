package splice

import (
	"io"
	"net"
)

// Direct returns a function that writes to w as much as w takes without waiting, and returns how much that was; nil if w
// cannot do that. The function must not be called while somebody else writes to w. A wrapper of a connection that can
// pass it on has a method of this name, or one that returns the connection to which its writes go as they are.
func Direct(w io.Writer) func(p []byte) int {
	switch w := w.(type) {
	case interface{ WritesTo() net.Conn }:
		return Direct(w.WritesTo())
	case interface{ Direct() func(p []byte) int }:
		return w.Direct()
	case *net.TCPConn:
		return directOf(w)
	case *net.UnixConn:
		if w.LocalAddr().Network() == "unix" { // datagrams are taken whole or not at all
			return directOf(w)
		}
	}
	return nil
}

// deliverer is a source that writes what comes to a connection by itself: no goroutine waits while nothing comes. done
// is called once, at the end of the source or at a failure. Where err is nil and w is one that [Direct] knows, it must
// not wait.
type deliverer interface {
	Deliver(w io.Writer, done func(n int64, err error))
}
