package flow

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
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
//	            much has moved             the entrance
//	                                       has dialled
//	inSession ------------------> asked ----------------> apart: both directions switch
//	    |                           |                       ^
//	    |                           |                       | at the exit, which does not ask
//	    +---------------------------|-----------------------+
//	    |      the flow ends        v
//	    +------------------------> over     a dedicated connection that comes now is reset
//
// When it is apart each direction switches by itself, the sender as soon as no write is in progress:
//
//	sender    bytes, END_STREAM with the field ztm-moved | bytes of the dedicated connection
//	receiver  reads to that end, and goes on reading in the dedicated connection
//
// The order of bytes is kept; nothing is sent twice. From there it may go on in another connection:
// see reroute.go. Flows of datagrams stay in the session.
type offload struct {
	ask    func()       // static after OnOffload; nil: the flow does not ask
	phase  atomic.Int32 // one of the phases below; changed with mu held
	mu     sync.Mutex
	here   chan struct{} // closed in apart and in over
	ended  ending        // guarded by mu
	free   func()        // takes back what was asked of the session; guarded by mu
	stages               // those it goes through
}

// ending is how a flow has ended at this side.
type ending int

const (
	lives ending = iota
	closed
	wasReset
)

// The phases of an offload.
const (
	inSession int32 = iota
	asked
	apart
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
	c.switchSoon()
	// The session asks whether the peer lives; a dedicated connection whose window is shut cannot.
	// So it ends with its session.
	stop := c.stream.Conn().OnClose(func() { c.Reset() })
	c.offload.mu.Lock()
	defer c.offload.mu.Unlock()
	if c.offload.ended != lives {
		stop()
		return
	}
	c.offload.free = stop
}

// begin goes to apart.
func (o *offload) begin(d Dedicated) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.phase.Load() > asked {
		return false
	}
	o.last.Store(&stage{conn: d})
	o.phase.Store(apart)
	close(o.here)
	return true
}

// Offloaded reports whether the flow has a dedicated connection.
func (c *Conn) Offloaded() bool { return c.offload.phase.Load() == apart }

// end ends the offload with the flow, and returns the connections that there are.
func (o *offload) end(how ending) []Dedicated {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ended = how; o.free != nil {
		o.free()
	}
	if o.phase.Load() <= asked {
		o.phase.Store(over)
		close(o.here)
	}
	return o.openLocked()
}

// switchReading is called by the reading goroutine when it has read in the session that the
// direction goes on elsewhere. session is closed with the session, without which no dedicated
// connection comes.
func (o *offload) switchReading(session <-chan struct{}) error {
	select {
	case <-o.here: // our end of the connection may come after the peer's first use of it
	case <-session:
	}
	if o.phase.Load() != apart {
		return net.ErrClosed
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.reading = o.last.Load()
	o.changedLocked()
	return nil
}

// copy copies src to dst, one of which is the dedicated connection, until src ends.
func (o *offload) copy(dst io.Writer, src io.Reader, count func(int64)) (total int64, err error) {
	err = dedicatedBuffers().Copy(dst, src, func(n int64) { total += n; count(n) })
	return total, err
}
