package h2

import (
	"net"

	"ztm/tunnel/h2/wire"
)

// Handlers of the streams that the peer opens:
//
//	request -> an idle goroutine, else a new one -> Handler -> what the stream still owes -> idle, or the end
//
// Goroutines stay for a while because their stacks have grown to what handlers need: growing takes
// a tenth of a short flow's time.
type servers struct {
	idle chan *Stream // to a goroutine that waits for the next stream; nil ends it
	kept int          // how many wait; guarded by Conn.mu
}

// mostKept is how many goroutines stay.
const mostKept = 4

// serveLocked runs the handler.
func (c *Conn) serveLocked(s *Stream) {
	s.serving = true
	if c.kept > 0 {
		c.kept--
		c.idle <- s // which one of them is about to take, if it does not wait already
		return
	}
	c.served.Add(1)
	go c.serve(s) // ends with the connection at the latest
}

// serve serves one stream, and others after it.
func (c *Conn) serve(s *Stream) {
	for s != nil {
		c.o.Handler(s)
		if !c.servedOne(s) {
			break
		}
		s = <-c.idle
	}
	c.served.Done()
}

// servedOne ends what a handler has left, and reports whether its goroutine is to wait for another
// stream.
func (c *Conn) servedOne(s *Stream) (stay bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	counts := s.serving
	s.serving = false
	switch {
	case s.over && counts:
		c.theirs-- // a handler counts as long as it runs, also after a reset
	case s.over, s.kept:
	case s.ended && !s.closed: // the answer is whole; what the peer still sends nobody wants
		c.sayResetLocked(s.id, wire.NoError)
		s.failLocked(net.ErrClosed)
	default:
		s.resetLocked(wire.InternalError, errReset)
	}
	if c.err != nil || !c.o.Busy || c.kept == mostKept {
		return false
	}
	c.kept++
	return true
}

// dismissLocked ends the goroutines that wait.
func (c *Conn) dismissLocked() {
	for ; c.kept > 0; c.kept-- {
		c.idle <- nil
	}
}
