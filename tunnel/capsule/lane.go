package capsule

import (
	"io"
	"net"

	"ztm/tunnel/room"
)

// A flow that moves much leaves the HTTP/2 session it shares for a connection of its own, a lane: HTTP/2 costs a third of the
// throughput, and a bulk flow in it delays its neighbours. Each direction moves by itself, at the sender's pleasure:
//
//	sender    DATA … DATA MOVED | the lane's bytes
//	receiver  reads MOVED, and goes on reading in the lane
//
// MOVED is a capsule without value. The order of bytes is kept; nothing is sent twice. In the lane a direction ends with its
// close_notify (RFC 8446 section 6.1), and a connection that breaks off without one was cut.
type Lane interface {
	net.Conn
	CloseWrite() error
	Reset() error // ends the connection at once, without a close_notify
}

// When a flow asks for a lane: it stalls, see stall.go; it has moved BulkBytes, or it has moved anything so often as busyPieces. HTTP/2 passes each piece through
// three more goroutines at either end, which a flow that goes back and forth feels.
const (
	BulkBytes  = 1 << 20
	busyPieces = 256
)

// sip is what a silent source keeps, in bytes: a request or a keystroke fits.
const sip = 1 << 10

// What one direction reads its source into, in the session it shares and in a lane.
var (
	shared = room.NewLadder(sip, chunk)
	bulk   = room.Bulk(sip)
)

// OnBulk sets what is called, once and in a goroutine of its own, when the flow wants a lane. It is set before the first use.
func (c *Conn) OnBulk(f func()) { c.onBulk = f }

// Move gives the flow its lane, which it owns from now on. It is called at most once, at each end; flows of datagrams do not move.
func (c *Conn) Move(l Lane) {
	c.laneMu.Lock()
	defer c.laneMu.Unlock()
	if c.over || c.lane != nil {
		l.Reset()
		return
	}
	c.lane = l
	c.hasLane.Store(true)
	close(c.laneReady)
	c.relieve()
}

// Moved reports whether the flow has a lane.
func (c *Conn) Moved() bool { return c.hasLane.Load() }

// account adds to the counters and asks for a lane when it is time.
func (c *Conn) account(sent, received int64) {
	total := c.sent.Add(sent) + c.received.Add(received)
	if total > BulkBytes || c.pieces.Add(1) > busyPieces {
		c.askLane()
	}
}

func (c *Conn) askLane() {
	if !c.datagram && c.onBulk != nil && c.asked.CompareAndSwap(false, true) {
		go c.onBulk() // the owner of the function waits for it
	}
}

// endLane ends the lane if there is one, and refuses one that comes later.
func (c *Conn) endLane(reset bool) {
	c.laneMu.Lock()
	defer c.laneMu.Unlock()
	c.over = true
	if c.lane == nil {
		close(c.laneReady) // nobody waits for ever
		return
	}
	if reset {
		c.lane.Reset()
		return
	}
	go linger(c.lane, func() { c.lane.Reset() })
}

// readLane switches the reading side; called by the reading goroutine when it has read MOVED.
func (c *Conn) readLane() error {
	<-c.laneReady
	if !c.hasLane.Load() {
		return net.ErrClosed
	}
	c.reading = c.lane
	return nil
}

// writeLaneLocked switches the writing side if it is time to, and reports whether it is switched. c.wmu is held.
func (c *Conn) writeLaneLocked() (bool, error) {
	if c.writing != nil {
		return true, nil
	}
	if !c.hasLane.Load() {
		return false, nil
	}
	var moved [dataHeader]byte
	putDataHeader(moved[:], typeMoved, 0)
	if err := c.out.finish(moved[:], false); err != nil {
		return false, err
	}
	c.writing = c.lane
	return true, nil
}

// pullLaneLocked switches the writing side if it has not, and sends what src gives after the first total bytes. c.wmu is held.
func (c *Conn) pullLaneLocked(src io.Reader, total int64) (int64, error) {
	if _, err := c.writeLaneLocked(); err != nil {
		return total, err
	}
	n, err := c.copyLane(c.writing, src, func(n int64) { c.account(n, 0) })
	return total + n, err
}

// drainLane gives what the lane brings to w.
func (c *Conn) drainLane(w io.Writer) (int64, error) {
	return c.copyLane(w, c.reading, func(n int64) { c.account(0, n) })
}

func (c *Conn) copyLane(dst io.Writer, src io.Reader, count func(int64)) (total int64, err error) {
	in := room.Room{Ladder: bulk()}
	defer in.Release()
	for {
		b := in.Next(nil)
		n, rerr := src.Read(b)
		in.Brought(n)
		if n > 0 {
			m, werr := dst.Write(b[:n])
			total += int64(m)
			count(int64(m))
			if werr != nil {
				return total, werr
			}
		}
		if rerr == io.EOF {
			return total, nil
		}
		if rerr != nil {
			return total, rerr
		}
	}
}
