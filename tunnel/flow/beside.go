package flow

import (
	"sync/atomic"
	"time"
)

// Beside is a way for the datagrams of flows beside their session, which may lose them: package
// datagram has one. A flow is named by the number of its stream. It is safe for concurrent use.
type Beside interface {
	// Enlist has datagrams of a flow taken from now on, which Next returns; wake is called when there
	// is one. To do it again changes nothing. Delist ends that.
	Enlist(flow uint32, wake func())
	Delist(flow uint32)

	// Send sends a datagram, or reports false: it is to go in the session.
	Send(flow uint32, datagram []byte) bool

	// Waits reports whether there is a datagram for a flow. Next takes it, and reports false if there
	// is none.
	Waits(flow uint32) bool
	Next(flow uint32, b []byte) (n int, ok bool)
}

// beside is the way beside the session that a flow of datagrams has, if it has one.
//
//	Write   a Beside that takes it, else a capsule of the session; then a way is asked for, now and then
//	Read    what has come beside the session, then what is in it: either wakes a reader
//
// Nothing goes both ways. What is in one way may overtake what is in the other, as datagrams do.
type beside struct {
	way  atomic.Pointer[besideWay]
	exit bool        // static
	came atomic.Bool // a datagram of the peer
	over atomic.Bool

	ask   func()    // static after OnBeside; nil: the flow does not ask
	asked time.Time // guarded by Conn.wmu
}

// askEvery is how long a flow that sends in its session waits until it asks for a way again.
const askEvery = 5 * time.Second

// OnBeside sets what is called when a flow of datagrams sends and no way takes that, every few seconds
// at the most. ask may call [Conn.Beside], and must not wait. It is set before the first use.
func (c *Conn) OnBeside(ask func()) { c.beside.ask = ask }

// besideWay is a way, with the number of the flow there.
type besideWay struct {
	way  Beside
	flow uint32
}

// Beside has a flow of datagrams use a way beside its session, from now on and in place of any other.
// On a flow of bytes it does nothing.
func (c *Conn) Beside(way Beside) {
	if c.packets == nil {
		return
	}
	w := &besideWay{way, c.stream.ID()}
	way.Enlist(w.flow, c.stream.Wake)
	if old := c.beside.way.Swap(w); old != nil && old.way != way {
		old.way.Delist(w.flow)
	}
	c.stream.Wake() // what has come before the reader knew of the way
	if c.beside.over.Load() {
		way.Delist(w.flow)
	}
}

// end takes the flow off its way.
func (b *beside) end() {
	b.over.Store(true)
	if on := b.way.Load(); on != nil {
		on.way.Delist(on.flow)
	}
}

// sendBesideLocked sends a datagram beside the session, if it can. An exit waits for the first datagram
// of the peer, which has the peer's flow ready for it. Where nothing can be written in the session
// nothing is sent beside it either: the flow is over, for this side or the peer. c.wmu is held.
func (c *Conn) sendBesideLocked(p []byte) bool {
	b := &c.beside
	if on := b.way.Load(); on != nil && (!b.exit || b.came.Load()) && c.stream.WriteErr() == nil && on.way.Send(on.flow, p) {
		return true
	}
	if now := time.Now(); b.ask != nil && !b.over.Load() && now.Sub(b.asked) >= askEvery {
		b.asked = now
		b.ask()
	}
	return false
}

// waits reports whether a datagram is there.
func (b *beside) waits() bool {
	on := b.way.Load()
	return on != nil && on.way.Waits(on.flow)
}

// next takes a datagram that is there.
func (b *beside) next(p []byte) (n int, ok bool) {
	if on := b.way.Load(); on != nil {
		n, ok = on.way.Next(on.flow, p)
	}
	return n, ok
}

// waitDatagram waits until a datagram is there, on either way.
func (c *Conn) waitDatagram() error {
	if !c.packets.Begun() {
		c.stream.Await(c.beside.waits)
		if c.beside.waits() {
			return nil
		}
	}
	return c.packets.Wait()
}

// readDatagram reads one, from either way.
func (c *Conn) readDatagram(p []byte) (n int, err error) {
	for there := false; !there; {
		if err := c.waitDatagram(); err != nil {
			return 0, err
		}
		if n, there = c.beside.next(p); !there && c.packets.Begun() { // the way may have ended meanwhile
			n, err = c.packets.Read(p)
			there = true
		}
	}
	c.received.Add(int64(n))
	if err == nil && !c.beside.came.Load() {
		c.beside.came.Store(true)
	}
	return n, err
}
