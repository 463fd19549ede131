package flow

import (
	"io"
	"net"
	"sync"
	"sync/atomic"

	"ztm/tunnel/h2"
)

// Dedicated is a sealed connection that carries one flow and nothing else. One goroutine may read
// while another writes.
//
// A direction ends there with its close_notify (RFC 8446 section 6.1); a connection that breaks off
// without one was cut.
type Dedicated interface {
	net.Conn
	CloseWrite() error
	Reset() error // ends the connection at once, without a close_notify
}

// offload is where the bytes of a flow travel. A flow that moves much leaves the HTTP/2 session it
// shares for a dedicated connection, which needs no frames and is read by another processor, and so
// does not delay its neighbours.
//
//	            much has moved             the entrance             both directions
//	                                       has dialled              have switched
//	inSession ------------------> asked ----------------> moving -------------------> moved
//	    |                           |                       ^
//	    |                           |                       | at the exit, which does not ask
//	    +---------------------------|-----------------------+
//	    |      the flow ends        v
//	    +------------------------> over     a dedicated connection that comes now is reset
//
// While it is moving each direction switches by itself, at its sender's pleasure:
//
//	sender    bytes, END_STREAM with the field ztm-moved | bytes of the dedicated connection
//	receiver  reads to that end, and goes on reading in the dedicated connection
//
// The order of bytes is kept; nothing is sent twice. Flows of datagrams stay in the session.
type offload struct {
	ask      func()       // static after OnOffload; nil: the flow does not ask
	phase    atomic.Int32 // one of the phases below; changed with mu held
	mu       sync.Mutex
	conn     Dedicated     // guarded by mu before moving, static from then on
	here     chan struct{} // closed in moving and in over
	switched atomic.Int32  // directions
	ended    bool          // guarded by mu
	free     func()        // takes back what was asked of the session; guarded by mu

	reading Dedicated // owned by the reading goroutine; nil before it has switched
	writing Dedicated // guarded by Conn.wmu; nil before it has switched
}

// The phases of an offload.
const (
	inSession int32 = iota
	asked
	moving
	moved
	over
)

// BulkBytes is how many bytes a flow has moved when it asks for a dedicated connection.
const BulkBytes = 1 << 20

// OnOffload sets what is called, once and in a goroutine of its own, when the flow wants a
// dedicated connection. It is set before the first use.
func (c *Conn) OnOffload(f func()) {
	if c.packets == nil {
		c.offload.ask = f // the owner of the function waits for it
		c.stream.OnBulk(BulkBytes, c.askOffload)
	}
}

// fieldMoved is the trailer that ends a direction which goes on in the dedicated connection.
const fieldMoved = "ztm-moved"

// movesOn reports whether the end that was read in the session says that the direction goes on.
func (c *Conn) movesOn() bool { return c.stream.Trailers().Get(fieldMoved) != "" }

func (c *Conn) askOffload() {
	o := &c.offload
	o.mu.Lock()
	first := o.phase.CompareAndSwap(inSession, asked)
	o.mu.Unlock()
	if first {
		o.ask()
	}
}

// Offload gives the flow its dedicated connection, which it owns from now on, at each end. A second
// one, or one that comes after the end of the flow, is reset.
func (c *Conn) Offload(d Dedicated) {
	if !c.offload.begin(d) {
		d.Reset()
		return
	}
	// The session asks whether the peer lives; a dedicated connection whose window is shut cannot.
	// So it ends with its session.
	stop := c.stream.Conn().OnClose(func() { c.Reset() })
	c.offload.mu.Lock()
	defer c.offload.mu.Unlock()
	if c.offload.ended {
		stop()
		return
	}
	c.offload.free = stop
}

// begin goes to moving.
func (o *offload) begin(d Dedicated) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.phase.Load() > asked {
		return false
	}
	o.conn = d
	o.phase.Store(moving)
	close(o.here)
	return true
}

// Offloaded reports whether the flow has a dedicated connection.
func (c *Conn) Offloaded() bool { return c.offload.has() }

func (o *offload) has() bool {
	p := o.phase.Load()
	return p == moving || p == moved
}

// end ends the offload with the flow, and returns the connection if there is one.
func (o *offload) end() Dedicated {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ended = true; o.free != nil {
		o.free()
	}
	if o.phase.Load() <= asked {
		o.phase.Store(over)
		close(o.here)
	}
	return o.conn
}

// switchReading is called by the reading goroutine when it has read that the direction goes on
// elsewhere. session is closed with the session, without which no dedicated connection comes.
func (o *offload) switchReading(session <-chan struct{}) error {
	select {
	case <-o.here: // our end of the connection may come after the peer's first use of it
	case <-session:
	}
	if !o.has() {
		return net.ErrClosed
	}
	o.reading = o.conn
	o.countSwitched()
	return nil
}

// switchWritingLocked switches the writing side if it is time to. It returns nil while that is the
// session. c.wmu is held.
func (c *Conn) switchWritingLocked() (Dedicated, error) {
	o := &c.offload
	if o.writing == nil && o.has() {
		if err := c.stream.CloseWriteWith(h2.Fields{{Name: fieldMoved, Value: "?1"}}); err != nil {
			return nil, err
		}
		o.writing = o.conn
		o.countSwitched()
	}
	return o.writing, nil
}

// countSwitched goes to moved with the second direction.
func (o *offload) countSwitched() {
	if o.switched.Add(1) == 2 {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.phase.Store(moved)
	}
}

// copy copies src to dst, one of which is the dedicated connection, until src ends.
func (o *offload) copy(dst io.Writer, src io.Reader, count func(int64)) (total int64, err error) {
	err = dedicatedBuffers().Copy(dst, src, func(n int64) { total += n; count(n) })
	return total, err
}
