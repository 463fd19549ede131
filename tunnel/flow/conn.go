package flow

import (
	"cmp"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"ztm/tunnel/buffer"
	"ztm/tunnel/capsule"
	"ztm/tunnel/h2"
	"ztm/tunnel/splice"
)

// Conn is one flow. It is a net.Conn with CloseWrite and Reset; it has no deadlines.
//
// One goroutine may read while another writes.
type Conn struct {
	stream  *h2.Stream
	packets *capsule.Datagrams // nil: a stream of bytes
	ended   func()             // static after OnEnd
	once    sync.Once
	reset   atomic.Bool

	wmu    sync.Mutex // held by one Write, ReadFrom or CloseWrite at a time
	early  int        // bytes that Open has sent and that are still to be written; guarded by wmu
	taking taking     // guarded by wmu

	sink     sync.Mutex  // held while something is sent, and not while a source is waited for; after wmu
	finished bool        // the end of the writing direction was sent; guarded by sink
	answer   *time.Timer // sends the answer, if no byte of ours does before; nil: nothing is to be sent; guarded by sink

	sent     atomic.Int64 // payload beside that of the stream
	received atomic.Int64

	offload offload
	beside  beside
}

var _ net.Conn = (*Conn)(nil)

// ErrNoDeadline is what the deadline methods return: a flow has none, close it instead.
var ErrNoDeadline = errors.New("a flow has no deadlines")

var (
	errWriteAfterClose = errors.New("write after CloseWrite")
	errTooLarge        = errors.New("datagram too large")
)

func newConn(s *h2.Stream, datagrams bool) *Conn {
	c := &Conn{stream: s}
	if datagrams {
		c.packets = capsule.NewDatagrams(s)
	}
	c.offload.here = make(chan struct{})
	return c
}

// Datagrams reports whether it is a flow of datagrams.
func (c *Conn) Datagrams() bool { return c.packets != nil }

// Sent and Received return the bytes of payload so far. They may be called at any time.
func (c *Conn) Sent() int64 {
	if c.packets != nil {
		return c.sent.Load()
	}
	return c.sent.Load() + c.stream.Sent()
}

// Received: see Sent.
func (c *Conn) Received() int64 {
	if c.packets != nil {
		return c.received.Load()
	}
	return c.received.Load() + c.stream.Received()
}

// OnEnd sets what is called, once, when the flow is closed or reset at this side. It is set before
// the first use.
func (c *Conn) OnEnd(f func()) { c.ended = f }

// Read implements net.Conn.
func (c *Conn) Read(p []byte) (n int, err error) {
	if c.packets != nil {
		return c.readDatagram(p)
	}
	if c.offload.reading == nil {
		if n, err = c.stream.Read(p); err != io.EOF {
			return n, err
		}
		if !c.movesOn() {
			c.readOn()
			return n, io.EOF
		}
		if err := c.offload.switchReading(c.stream.Conn().Done()); err != nil {
			return 0, err
		}
	}
	return c.readDedicated(p)
}

// readDedicated reads in the connection that the reading direction is in, and the ones after it.
func (c *Conn) readDedicated(p []byte) (int, error) {
	for {
		n, err := c.offload.reading.conn.Read(p)
		c.received.Add(int64(n))
		if n > 0 || err != io.EOF {
			return n, err
		}
		if more, err := c.readOn(); err != nil || !more {
			return 0, cmp.Or(err, io.EOF)
		}
	}
}

// Wait waits for the next datagram of a flow of datagrams, without a buffer for it: Read then has
// its beginning.
func (c *Conn) Wait() error { return c.waitDatagram() }

// WriteTo implements io.WriterTo.
func (c *Conn) WriteTo(w io.Writer) (n int64, err error) {
	done := make(chan struct{})
	c.Deliver(w, func(m int64, e error) {
		n, err = m, e
		close(done)
	})
	<-done
	return n, err
}

// Deliver has all that comes from now on written to w, until the peer's direction ends or something
// fails; then it calls done, once, with how many bytes w took. It returns at once, and while nothing
// comes no goroutine waits. Nobody else may read the flow or write to w. done must not wait where err
// is nil: see [h2.Stream.Deliver].
func (c *Conn) Deliver(w io.Writer, done func(n int64, err error)) {
	if c.packets != nil || c.offload.reading != nil {
		go func() { // ends with the flow
			done(io.Copy(w, struct{ io.Reader }{c}))
		}()
		return
	}
	c.stream.Deliver(w, func(n int64, err error) {
		if err == nil && c.movesOn() {
			go func() { // ends with the flow
				m, err := c.deliverOn(w)
				done(n+m, err)
			}()
			return
		}
		if err == nil {
			c.readOn() // it waits for nothing: the direction has not left the session
		}
		done(n, err)
	})
}

// deliverOn gives to w what comes in dedicated connections, after the end of the session's part.
func (c *Conn) deliverOn(w io.Writer) (total int64, err error) {
	err = c.offload.switchReading(c.stream.Conn().Done())
	for more := true; more && err == nil; {
		var n int64
		n, err = c.offload.copy(w, c.offload.reading.conn, func(n int64) { c.received.Add(n) })
		total += n
		if err == nil {
			more, err = c.readOn()
		}
	}
	return total, err
}

// Write implements net.Conn. On a flow of datagrams it sends one, of at most 65,507 bytes.
func (c *Conn) Write(p []byte) (total int, err error) {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if c.packets != nil {
		return c.writeDatagramLocked(p)
	}
	total = min(c.early, len(p))
	c.early -= total
	n, err := c.sendLocked(p[total:])
	return total + n, err
}

// packetBuffers hold a datagram with its header.
var packetBuffers = buffer.NewClasses(2<<10, 66<<10)

func (c *Conn) writeDatagramLocked(p []byte) (int, error) {
	if len(p) > capsule.MaxDatagram {
		return 0, errTooLarge
	}
	if _, err := c.switchWriting(); err != nil {
		return 0, err
	}
	if c.sendBesideLocked(p) {
		c.sent.Add(int64(len(p)))
		return len(p), nil
	}
	b := packetBuffers.Get(len(p) + capsule.HeaderSize)
	defer packetBuffers.Put(b)
	if _, err := c.stream.Write(capsule.AppendDatagram((*b)[:0], p)); err != nil {
		return 0, err
	}
	c.sent.Add(int64(len(p)))
	return len(p), nil
}

// minBuffer is the minimum size of what a source is read into, in bytes: a request or a keystroke
// fits.
const minBuffer = 1 << 10

// What a source is read into, in the session and in a dedicated connection.
var (
	sessionBuffers   = buffer.NewClasses(minBuffer, 128<<10)
	dedicatedBuffers = buffer.Bulk(minBuffer)
)

// ReadFrom implements io.ReaderFrom. While src says nothing a buffer is held only if src cannot be
// waited for: see [splice.Waiter].
func (c *Conn) ReadFrom(src io.Reader) (int64, error) {
	if c.packets != nil {
		return c.packetsFrom(src)
	}
	t := &c.taking
	c.wmu.Lock()
	for t.beginLocked(c, src); t.pieceLocked(); {
		if wait := t.restingLocked(); wait != nil {
			wait() // a flow at rest waits here
		}
	}
	return t.end()
}

// packetsFrom is ReadFrom for a flow of datagrams.
func (c *Conn) packetsFrom(src io.Reader) (int64, error) {
	return io.Copy(struct{ io.Writer }{c}, src)
}

// taking is the run of ReadFrom: of a flow at rest it is the larger part of what its goroutine would
// have on its stack. It is guarded by Conn.wmu.
type taking struct {
	c     *Conn
	src   io.Reader
	in    buffer.Buffer
	total int64
	err   error
	wait  func() // until src has something to say; nil: unknown, or that takes a Read
	full  bool   // there may be more than the last read took
}

// beginLocked begins a run, which end ends.
func (t *taking) beginLocked(c *Conn, src io.Reader) {
	t.c, t.src, t.in.Classes = c, src, sessionBuffers
	t.total, t.err, t.wait, t.full = 0, nil, nil, false
}

func (t *taking) end() (int64, error) {
	t.in.Release()
	total, err := t.total, t.err
	t.c.wmu.Unlock()
	return total, err
}

// restingLocked returns what waits for the source without a buffer; nil if more is there or nobody
// can tell.
func (t *taking) restingLocked() func() {
	if t.full {
		return nil
	}
	if t.wait == nil {
		if t.wait = splice.Waiter(t.src); t.wait == nil {
			return nil
		}
	}
	t.in.Release()
	return t.wait
}

// pieceLocked moves one piece, and reports whether there may be another. c.wmu is held.
func (t *taking) pieceLocked() (more bool) {
	d, err := t.c.switchWriting()
	if err != nil {
		t.err = err
		return false
	}
	if d != nil && t.c.early == 0 {
		t.in.Release()
		n, err := t.c.offload.copy(sending{t.c}, t.src, func(int64) {})
		t.total += n
		t.err = err
		return false
	}
	n, err := t.readLocked()
	t.total += n
	t.err = ended(err)
	return err == nil
}

// readLocked reads src once and sends what comes, without what Open has sent already. c.wmu is
// held.
func (t *taking) readLocked() (int64, error) {
	b, c := t.in.Next(nil), t.c
	if c.early > 0 {
		b = b[:min(c.early, len(b))]
	}
	n, err := t.src.Read(b)
	t.full = n == t.in.Size()
	if c.early > 0 {
		c.early -= n
		return int64(n), err
	}
	t.in.Filled(n)
	if n > 0 {
		if _, werr := c.sendLocked(b[:n]); werr != nil {
			return 0, werr
		}
	}
	return int64(n), err
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
	return c.endWriting()
}

// endWriting sends the end of the writing direction, once.
func (c *Conn) endWriting() error {
	c.sink.Lock()
	defer c.sink.Unlock()
	if c.finished {
		return nil
	}
	d, err := c.switchWritingLocked()
	if err != nil {
		return err
	}
	c.finished = true
	if d != nil {
		return d.CloseWrite()
	}
	return c.stream.CloseWrite()
}

// Close ends both directions. What was written before reaches the peer, which then reads io.EOF;
// what the peer still sends is lost. If another goroutine is in the middle of a Write, Close resets
// instead of waiting for it.
func (c *Conn) Close() error {
	c.once.Do(func() {
		clean := c.wmu.TryLock()
		if clean {
			ends := c.endsInSession()
			c.wmu.Unlock()
			clean = ends || closeWriteSoon(c.endWriting)
		}
		c.finish(!clean)
	})
	return nil
}

// endsInSession reports whether the end of the writing direction was sent, or goes with the stream's.
func (c *Conn) endsInSession() bool {
	if !c.sink.TryLock() {
		return false // it is about to go on
	}
	defer c.sink.Unlock()
	if c.offload.last.Load() == nil {
		c.finished = true
	}
	return c.finished
}

// closeTimeout bounds how long Close waits for a peer that takes nothing, or sends on.
const closeTimeout = 5 * time.Second

// closeWriteSoon has an end sent within closeTimeout: a peer that reads nothing must not hold up
// Close.
func closeWriteSoon(end func() error) bool {
	done := make(chan error, 1)
	go func() { done <- end() }() // ends by itself, or when the connection is reset
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
	how := closed
	if reset {
		how = wasReset
	}
	connections := c.offload.end(how)
	c.beside.end()
	if reset {
		c.reset.Store(true)
		c.stream.Reset()
	} else {
		c.stream.Close()
	}
	for _, d := range connections {
		if reset {
			d.Reset()
		} else {
			go lingeringClose(d, func() { d.Reset() })
		}
	}
	if c.ended != nil {
		c.ended()
	}
}

// Finish closes the flow at the exit, after the app is done with it, and reports whether it was
// reset.
func (c *Conn) Finish() (reset bool) {
	c.Close()
	return c.reset.Load()
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
