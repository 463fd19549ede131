package flow

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"ztm/tunnel/buffer"
	"ztm/tunnel/capsule"
	"ztm/tunnel/h2"
)

// Conn is one flow. It is a net.Conn with CloseWrite and Reset; it has no deadlines.
//
// One goroutine may read while another writes.
type Conn struct {
	in       io.Reader // a *capsule.Stream or *capsule.Datagrams
	out      sink
	datagram bool
	end      func(reset bool) // ends the request; called once
	drain    func() bool      // at the exit: takes what is left of the request; false if that is too much
	ended    func()           // static after OnEnd
	once     sync.Once

	wmu      sync.Mutex // held by one Write, ReadFrom or CloseWrite at a time
	finished bool       // the end of the writing direction was sent; guarded by wmu
	early    int        // bytes that Open has sent and that are still to be written; guarded by wmu

	heard    atomic.Bool // the end of the reading direction was read
	reset    atomic.Bool
	sent     atomic.Int64
	received atomic.Int64

	offload   offload
	delivery  stopwatch                 // until what was read is taken
	remainder atomic.Pointer[remainder] // nil: WriteTo reads the session itself
}

var _ net.Conn = (*Conn)(nil)

// sink is the writing direction in the session: the body of a request, or of an answer.
type sink interface {
	// write sends bytes of the stream.
	write(p []byte) (int, error)

	// datagram sends one datagram.
	datagram(p []byte) error

	// pull sends what src gives until src ends, or until c is offloaded: then the error is
	// capsule.ErrMoved.
	pull(src io.Reader, c *Conn) (int64, error)

	// move says that the direction goes on in the dedicated connection.
	move() error

	// end ends the direction. If the other one has ended before, it may wait for the end of the
	// request, which is near.
	end(other bool) error
}

// chunk is what one frame of a busy flow carries, header included, in bytes.
const chunk = h2.Frame

// buffers are of size chunk. A flow holds one only while it writes.
var buffers = buffer.NewClasses(chunk)

// ErrNoDeadline is what the deadline methods return: a flow has none, close it instead.
var ErrNoDeadline = errors.New("a flow has no deadlines")

var (
	errWriteAfterClose = errors.New("write after CloseWrite")
	errTooLarge        = errors.New("datagram too large")
)

func newConn(body io.Reader, out sink, datagrams bool) *Conn {
	c := &Conn{out: out, datagram: datagrams}
	if datagrams {
		c.in = capsule.NewDatagrams(body)
	} else {
		c.in = capsule.NewStream(body)
	}
	c.offload.here = make(chan struct{})
	c.delivery.onStall(func() {
		c.relieve()
		c.askOffload()
	})
	return c
}

// Sent and Received return the bytes of payload so far. They may be called at any time.
func (c *Conn) Sent() int64     { return c.sent.Load() }
func (c *Conn) Received() int64 { return c.received.Load() }

// OnEnd sets what is called, once, when the flow is closed or reset at this side. It is set before
// the first use.
func (c *Conn) OnEnd(f func()) { c.ended = f }

// account adds to the counters and asks for a dedicated connection when it is time.
func (c *Conn) account(sent, received int64) {
	total := c.sent.Add(sent) + c.received.Add(received)
	if c.offload.busy(total) {
		c.askOffload()
	}
}

// Read implements net.Conn.
func (c *Conn) Read(p []byte) (n int, err error) {
	if d := c.offload.reading; d != nil {
		n, err = d.Read(p)
		c.account(0, int64(n))
		return n, err
	}
	switch n, err = c.in.Read(p); err {
	case capsule.ErrMoved:
		if err = c.offload.switchReading(); err == nil {
			return c.Read(p)
		}
	case io.EOF:
		c.heard.Store(true)
	}
	c.account(0, int64(n))
	return n, err
}

// WriteTo implements io.WriterTo.
func (c *Conn) WriteTo(w io.Writer) (total int64, err error) {
	s, ok := c.in.(*capsule.Stream)
	if !ok {
		return io.Copy(w, struct{ io.Reader }{c})
	}
	if c.offload.reading == nil {
		if total, err = c.writeSession(w, s); err != capsule.ErrMoved {
			return total, err
		}
		if err := c.offload.switchReading(); err != nil {
			return total, err
		}
	}
	n, err := c.offload.copy(w, c.offload.reading, func(n int64) { c.account(0, n) })
	return total + n, err
}

// writeSession gives to w what comes in the session. The error is capsule.ErrMoved if there is
// more, elsewhere.
func (c *Conn) writeSession(w io.Writer, s *capsule.Stream) (total int64, err error) {
	total, err = s.WriteTo(counted{w, c})
	if err == errTakenOver {
		var n int64
		n, err = c.writeRemainder(w)
		total, err = total+n, ended(err)
	}
	if err == nil {
		c.heard.Store(true)
	}
	return total, err
}

// Write implements net.Conn. On a flow of datagrams it sends one, of at most 65,507 bytes.
func (c *Conn) Write(p []byte) (total int, err error) {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if c.finished {
		return 0, errWriteAfterClose
	}
	if c.datagram {
		return c.writeDatagram(p)
	}
	d, err := c.switchWritingLocked()
	if err != nil {
		return 0, err
	}
	total = min(c.early, len(p))
	c.early -= total
	c.account(int64(total), 0)
	p = p[total:]
	if d != nil {
		n, err := d.Write(p)
		c.account(int64(n), 0)
		return total + n, err
	}
	for len(p) > 0 {
		n, err := c.out.write(p[:min(len(p), chunk-capsule.HeaderSize)])
		c.account(int64(n), 0)
		total += n
		if err != nil {
			return total, err
		}
		p = p[n:]
	}
	return total, nil
}

func (c *Conn) writeDatagram(p []byte) (int, error) {
	if len(p) > capsule.MaxDatagram {
		return 0, errTooLarge
	}
	if err := c.out.datagram(p); err != nil {
		return 0, err
	}
	c.sent.Add(int64(len(p)))
	return len(p), nil
}

// ReadFrom implements io.ReaderFrom without a copy: src is read straight into the frame that is
// sent.
func (c *Conn) ReadFrom(src io.Reader) (int64, error) {
	if c.datagram {
		return io.Copy(struct{ io.Writer }{c}, src)
	}
	c.wmu.Lock()
	defer c.wmu.Unlock()
	total, err := c.beginLocked(src)
	if err == nil {
		var n int64
		n, err = c.out.pull(src, c) // a flow at rest waits here
		total += n
	}
	if err == capsule.ErrMoved {
		return c.pullDedicatedLocked(src, total)
	}
	return total, ended(err)
}

// beginLocked is the beginning of ReadFrom: it skips what was sent early. The error is
// capsule.ErrMoved if the flow has moved. c.wmu is held.
func (c *Conn) beginLocked(src io.Reader) (total int64, err error) {
	if c.finished {
		return 0, errWriteAfterClose
	}
	d, err := c.switchWritingLocked()
	if err == nil {
		total, err = c.skipLocked(src)
	}
	if err == nil && d != nil {
		err = capsule.ErrMoved
	}
	return total, err
}

// skipLocked takes from src what Open has sent already. c.wmu is held.
func (c *Conn) skipLocked(src io.Reader) (total int64, err error) {
	if c.early == 0 {
		return 0, nil
	}
	p := buffers.Get(chunk)
	defer buffers.Put(p)
	for c.early > 0 && err == nil {
		var n int
		n, err = src.Read((*p)[:min(c.early, len(*p))])
		c.early -= n
		total += int64(n)
		c.account(int64(n), 0)
	}
	return total, err
}

// pullDedicatedLocked switches the writing side if it has not, and sends what src gives after the
// first total bytes. c.wmu is held.
func (c *Conn) pullDedicatedLocked(src io.Reader, total int64) (int64, error) {
	d, err := c.switchWritingLocked()
	if err != nil {
		return total, err
	}
	n, err := c.offload.copy(d, src, func(n int64) { c.account(n, 0) })
	return total + n, err
}

// ended is what the error of a source is to ReadFrom.
func ended(err error) error {
	if err == io.EOF {
		return nil
	}
	return err
}

// CloseWrite ends the writing direction: the peer reads to the end, then io.EOF.
func (c *Conn) CloseWrite() error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if c.finished {
		return nil
	}
	c.finished = true
	if c.offload.writing != nil {
		return c.offload.writing.CloseWrite()
	}
	return c.out.end(c.heard.Load())
}

// Close ends both directions. What was written before reaches the peer, which then reads io.EOF;
// what the peer still sends is lost. If another goroutine is in the middle of a Write, Close resets
// instead of waiting for it.
func (c *Conn) Close() error {
	c.once.Do(func() {
		clean := c.wmu.TryLock()
		if clean {
			finished := c.finished
			c.wmu.Unlock()
			clean = finished || c.closeWriteSoon()
		}
		c.finish(!clean)
	})
	return nil
}

// closeTimeout bounds how long Close and Finish wait for a peer that takes nothing, or sends on.
const closeTimeout = 5 * time.Second

// closeWriteSoon is CloseWrite within closeTimeout: a peer that reads nothing must not hold up
// Close.
func (c *Conn) closeWriteSoon() bool {
	done := make(chan error, 1)
	go func() { done <- c.CloseWrite() }() // ends by itself, or when end resets the request
	timer := time.NewTimer(closeTimeout)
	defer timer.Stop()
	select {
	case err := <-done:
		return err == nil
	case <-timer.C:
		return false
	}
}

// Reset ends both directions so that the peer sees an error, not an end. It never waits.
func (c *Conn) Reset() error {
	c.reset.Store(true)
	c.once.Do(func() { c.finish(true) })
	return nil
}

// finish ends the flow at this side.
func (c *Conn) finish(reset bool) {
	switch d := c.offload.end(); {
	case d == nil:
	case reset:
		d.Reset()
	default:
		go lingeringClose(d, func() { d.Reset() })
	}
	c.end(reset)
	if c.ended != nil {
		c.ended()
	}
}

// Finish closes the flow at the exit, after the app is done with it, and reports whether the stream
// must be reset.
//
// A handler that returns with its request half read ends the whole stream, and what the peer has
// not read of the answer could be lost with it. So Finish waits until the peer has ended its
// direction, too, for closeTimeout at most.
func (c *Conn) Finish() (reset bool) {
	c.Close()
	return c.reset.Load() || !c.drain() || c.reset.Load()
}

// lingeringClose lets the end that was written last be sent, which closing body at once would cut
// off, and throws away what still comes. It ends with the peer's end, and after closeTimeout in any
// case.
func lingeringClose(body io.ReadCloser, cancel func()) {
	timer := time.AfterFunc(closeTimeout, cancel)
	io.Copy(io.Discard, body)
	timer.Stop()
	body.Close()
	cancel()
}

func (c *Conn) LocalAddr() net.Addr              { return flowAddr{} }
func (c *Conn) RemoteAddr() net.Addr             { return flowAddr{} }
func (c *Conn) SetDeadline(time.Time) error      { return ErrNoDeadline }
func (c *Conn) SetReadDeadline(time.Time) error  { return ErrNoDeadline }
func (c *Conn) SetWriteDeadline(time.Time) error { return ErrNoDeadline }

type flowAddr struct{}

func (flowAddr) Network() string { return "ztm" }
func (flowAddr) String() string  { return "flow" }
