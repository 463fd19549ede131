package flow

import (
	"io"
	"net"
	"sync"
	"sync/atomic"

	"ztm/tunnel/buffer"
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
// shares for a dedicated connection: HTTP/2 costs a third of the throughput, and a bulk flow in it
// delays its neighbours. So does one that nobody reads, see stall.go.
//
//	            much has moved,            the entrance             both directions
//	            or nobody reads            has dialled              have switched
//	inSession ------------------> asked ----------------> moving -------------------> moved
//	    |                           |                       ^
//	    |                           |                       | at the exit, which does not ask
//	    +---------------------------|-----------------------+
//	    |      the flow ends        v
//	    +------------------------> over     a dedicated connection that comes now is reset
//
// While it is moving each direction switches by itself, at its sender's pleasure:
//
//	sender    DATA … DATA MOVED | bytes of the dedicated connection
//	receiver  reads MOVED, and goes on reading in the dedicated connection
//
// The order of bytes is kept; nothing is sent twice. Flows of datagrams stay in the session.
type offload struct {
	ask    func()       // static after OnOffload; nil: the flow does not ask
	pieces atomic.Int32 // how often bytes have moved

	phase    atomic.Int32 // one of the phases below; changed with mu held
	mu       sync.Mutex
	conn     Dedicated     // guarded by mu before moving, static from then on
	here     chan struct{} // closed in moving and in over
	switched atomic.Int32  // directions

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

// When a flow asks for a dedicated connection: it has moved BulkBytes, or it has moved anything so
// often as busyPieces. HTTP/2 passes each piece through three more goroutines at either end, which
// a flow that goes back and forth feels.
const (
	BulkBytes  = 1 << 20
	busyPieces = 256
)

// busy counts a piece and reports whether the flow, which has moved so many bytes, is one for a
// dedicated connection.
func (o *offload) busy(total int64) bool { return total > BulkBytes || o.pieces.Add(1) > busyPieces }

// OnOffload sets what is called, once and in a goroutine of its own, when the flow wants a
// dedicated connection. It is set before the first use.
func (c *Conn) OnOffload(f func()) { c.offload.ask = f }

func (c *Conn) askOffload() {
	o := &c.offload
	if c.datagram || o.ask == nil || o.phase.Load() != inSession {
		return
	}
	o.mu.Lock()
	first := o.phase.CompareAndSwap(inSession, asked)
	o.mu.Unlock()
	if first {
		go o.ask() // the owner of the function waits for it
	}
}

// Offload gives the flow its dedicated connection, which it owns from now on, at each end. A second
// one, or one that comes after the end of the flow, is reset.
func (c *Conn) Offload(d Dedicated) {
	if !c.offload.begin(d) {
		d.Reset()
		return
	}
	c.relieve()
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
	if o.phase.Load() <= asked {
		o.phase.Store(over)
		close(o.here)
	}
	return o.conn
}

// switchReading is called by the reading goroutine when it has read MOVED.
func (o *offload) switchReading() error {
	<-o.here // our end of the connection may come after the peer's first use of it
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
		if err := c.out.move(); err != nil {
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

// minBuffer is the minimum size of what a source is read into, in bytes: a request or a keystroke
// fits.
const minBuffer = 1 << 10

// What a source is read into, in the session and in a dedicated connection.
var (
	sessionBuffers   = buffer.NewClasses(minBuffer, chunk)
	dedicatedBuffers = buffer.Bulk(minBuffer)
)

// copy copies src to dst, one of which is the dedicated connection, until src ends.
func (o *offload) copy(dst io.Writer, src io.Reader, count func(int64)) (total int64, err error) {
	in := buffer.Buffer{Classes: dedicatedBuffers()}
	defer in.Release()
	for {
		b := in.Next(nil)
		n, rerr := src.Read(b)
		in.Filled(n)
		if n > 0 {
			m, werr := dst.Write(b[:n])
			total += int64(m)
			count(int64(m))
			if werr != nil {
				return total, werr
			}
		}
		if rerr != nil {
			return total, ended(rerr)
		}
	}
}
