package h2

import (
	"io"
	"slices"
	"time"

	"ztm/tunnel/buffer"
	"ztm/tunnel/h2/flood"
	"ztm/tunnel/h2/wire"
)

// The reading side. One goroutine reads frames; it never waits for a stream, nor for a write:
//
//	DATA -> a chunk of the pool -> the stream's inbox -> Read, or a sink (deliver.go)
//	                            -> credit for the connection at once, for the stream when it is taken (window.go)
//	what is to be answered goes to pending, and a goroutine flushes it
type receiver struct {
	decoder   *wire.Decoder
	header    [wire.HeaderSize]byte
	block     block
	started   bool     // the first SETTINGS have come
	resets    []uint32 // streams that we have reset lately: what the peer had sent by then is not an error
	resetNext int
	windows
}

// keptResets is how many of our resets are remembered.
const keptResets = 128

func (r *receiver) init(o Options) {
	r.decoder = wire.NewDecoder()
	r.windows.init(o)
}

// chunks are what DATA is read into.
var chunks = buffer.NewClasses(1<<10, 4<<10, wire.LeastFrame, wire.MaxFrame)

// chunk is a piece of a stream that was received.
type chunk struct {
	buf  *[]byte
	r, w int // what is not taken yet is buf[r:w]
}

// inbox is what a stream has received and nobody has taken.
type inbox struct {
	chunks []chunk
	unread int   // bytes in them
	length int64 // what content-length says; -1: nothing
	got    int64
	recvWindow
	sink *sink
}

// frame reads one frame and does what it says.
func (c *Conn) frame() error {
	if _, err := io.ReadFull(c.rw, c.header[:]); err != nil {
		return err
	}
	f := wire.Parse(&c.header)
	c.mu.Lock()
	c.heard = time.Now()
	err := c.countLocked(f)
	c.mu.Unlock()
	switch {
	case err != nil:
		return err
	case f.Length > wire.MaxFrame:
		return wire.ConnError(wire.FrameSizeError, "a frame of %d bytes", f.Length)
	case !c.started && (f.Kind != wire.FrameSettings || f.Has(wire.FlagAck)):
		return wire.ConnError(wire.ProtocolError, "the first frame is no SETTINGS")
	case c.block.id != 0 && (f.Kind != wire.FrameContinuation || f.Stream != c.block.id):
		return wire.ConnError(wire.ProtocolError, "a frame of type %d within a field section", f.Kind)
	}
	switch f.Kind {
	case wire.FrameData:
		err = c.data(f)
	case wire.FrameHeaders:
		err = c.headers(f)
	case wire.FrameContinuation:
		err = c.continuation(f)
	default:
		err = c.control(f)
	}
	if e := streamError(err); e != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.refuseLocked(f.Stream, e)
	}
	return err
}

// streamError returns the error if it concerns one stream alone.
func streamError(err error) *Error {
	if e, ok := err.(*Error); ok && e.Stream {
		return e
	}
	return nil
}

// refuseLocked resets a stream on which the peer has made a fault.
func (c *Conn) refuseLocked(id uint32, e *Error) error {
	if err := c.spendLocked(flood.Fault); err != nil {
		return err
	}
	if s := c.streams[id]; s != nil {
		s.resetLocked(e.Code, e)
		return nil
	}
	c.sayResetLocked(id, e.Code)
	return nil
}

// sayResetLocked sends RST_STREAM, and remembers it.
func (c *Conn) sayResetLocked(id uint32, code Code) {
	c.pending = wire.AppendReset(c.pending, id, code)
	c.flushSoonLocked()
	if len(c.resets) < keptResets {
		c.resets = append(c.resets, id)
		return
	}
	c.resets[c.resetNext] = id
	c.resetNext = (c.resetNext + 1) % keptResets
}

func (c *Conn) wasResetLocked(id uint32) bool { return slices.Contains(c.resets, id) }

// idleLocked reports whether a stream has never been.
func (c *Conn) idleLocked(id uint32) bool {
	if c.ours(id) {
		return id >= c.nextID
	}
	return id > c.last
}

// data reads a DATA frame.
func (c *Conn) data(f wire.Frame) error {
	if f.Stream == 0 {
		return wire.ConnError(wire.ProtocolError, "DATA on stream 0")
	}
	s, err := c.admitData(f)
	if err != nil {
		return err
	}
	payload, pad, err := c.padding(f)
	if err == nil && payload == 0 && f.Length > 0 {
		c.mu.Lock()
		err = c.spendLocked(flood.Useless) // padding alone
		c.mu.Unlock()
	}
	if err != nil {
		return err
	}
	if s == nil {
		if err := discard(c.rw, payload+pad); err != nil {
			return err
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.creditConnLocked(f.Length)
		return nil
	}
	var b chunk
	if payload > 0 {
		b.buf = chunks.Get(payload)
		if _, err := io.ReadFull(c.rw, (*b.buf)[:payload]); err != nil {
			chunks.Put(b.buf)
			return err
		}
		b.w = payload
	}
	if err := discard(c.rw, pad); err != nil {
		return err
	}
	return c.take(s, f, b)
}

// admitData checks a DATA frame against the state of its stream and the windows. Without a stream
// and an error the frame is to be skipped.
func (c *Conn) admitData(f wire.Frame) (*Stream, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if int64(f.Length) > c.recv {
		return nil, wire.ConnError(wire.FlowControlError, "more than the window of the connection")
	}
	c.recv -= int64(f.Length)
	s := c.streams[f.Stream]
	switch {
	case s == nil && c.wasResetLocked(f.Stream):
		return nil, nil
	case s == nil && c.idleLocked(f.Stream):
		return nil, wire.ConnError(wire.ProtocolError, "DATA on an idle stream")
	case s == nil || s.remoteEnd:
		return nil, wire.ConnError(wire.StreamClosed, "DATA on a stream that has ended")
	case s.fields == nil:
		return nil, wire.StreamError(wire.ProtocolError, "DATA before HEADERS")
	case f.Length > 0 && int64(f.Length) > s.mostLocked(): // a window may be negative
		return nil, wire.StreamError(wire.FlowControlError, "more than the window of the stream")
	}
	s.recv -= int64(f.Length)
	return s, nil
}

// padding reads the length of the padding, and returns how many bytes come before it and in it.
func (c *Conn) padding(f wire.Frame) (payload, pad int, err error) {
	if !f.Has(wire.FlagPadded) {
		return f.Length, 0, nil
	}
	if f.Length == 0 {
		return 0, 0, wire.ConnError(wire.FrameSizeError, "a padded frame without a length of its padding")
	}
	if _, err := io.ReadFull(c.rw, c.header[:1]); err != nil {
		return 0, 0, err
	}
	pad = int(c.header[0])
	if payload = f.Length - 1 - pad; payload < 0 {
		return 0, 0, wire.ConnError(wire.ProtocolError, "more padding than frame")
	}
	return payload, pad, nil
}

// take gives a chunk to its stream.
func (c *Conn) take(s *Stream, f wire.Frame, b chunk) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	s.got += int64(b.w)
	s.bulk.addLocked(b.w)
	taken := f.Length - b.w // padding is taken at once
	if b.buf != nil {
		s.directLocked(&b)
		taken += b.r
	}
	switch {
	case s.err != nil || s.closed: // maybe since a moment
		c.creditConnLocked(f.Length)
		if b.buf != nil {
			chunks.Put(b.buf)
		}
		s.wakeReaderLocked()
		return nil
	case b.buf != nil && b.r == b.w:
		chunks.Put(b.buf)
		c.creditConnLocked(f.Length)
		c.measureLocked()
	default:
		c.receivedLocked(s, f.Length)
		if b.buf != nil {
			s.keepLocked(b)
		}
	}
	s.takenLocked(taken)
	return s.endOfDataLocked(f)
}

// endOfDataLocked notes the end of the peer's direction and wakes who reads.
func (s *Stream) endOfDataLocked(f wire.Frame) error {
	switch {
	case s.length >= 0 && s.got > s.length, f.Has(wire.FlagEndStream) && s.length >= 0 && s.got != s.length:
		return wire.StreamError(wire.ProtocolError, "%d bytes, and content-length says %d", s.got, s.length)
	case f.Has(wire.FlagEndStream):
		s.remoteEnd = true
		s.settleLocked()
	}
	if !s.endDirectLocked() {
		s.wakeReaderLocked()
	}
	return nil
}

// keepLocked appends a chunk. A small one is copied to the end of the last, so that many small
// frames do not hold many chunks.
func (s *Stream) keepLocked(b chunk) {
	s.unread += b.w - b.r
	if n := len(s.chunks); n > 0 && b.r == 0 {
		last := &s.chunks[n-1]
		if free := len(*last.buf) - last.w; b.w <= free && b.w <= 512 {
			last.w += copy((*last.buf)[last.w:], (*b.buf)[:b.w])
			chunks.Put(b.buf)
			return
		}
	}
	s.conn.holdLocked(len(*b.buf))
	s.chunks = append(s.chunks, b)
}

// nextLocked takes the first chunk off. It is given back with doneLocked.
func (s *Stream) nextLocked() chunk {
	b := s.chunks[0]
	s.chunks[0] = chunk{}
	if s.chunks = s.chunks[1:]; len(s.chunks) == 0 {
		s.chunks = nil
	}
	s.unread -= b.w - b.r
	return b
}

func (s *Stream) doneLocked(b chunk) {
	s.conn.holdLocked(-len(*b.buf))
	chunks.Put(b.buf)
}

// dropLocked throws away what was received.
func (s *Stream) dropLocked() {
	for len(s.chunks) > 0 {
		n := s.chunks[0].w - s.chunks[0].r
		b := s.nextLocked()
		s.takenLocked(n)
		s.doneLocked(b)
	}
}

// Read implements net.Conn.
func (s *Stream) Read(p []byte) (n int, err error) {
	c := s.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(s.chunks) == 0 && s.head != nil && c.client {
		s.openLocked(false)
		c.flushLocked()
	}
	for len(s.chunks) == 0 {
		if err := s.readErrLocked(); err != nil || len(p) == 0 {
			return 0, err
		}
		s.readable.Wait()
	}
	for n < len(p) && len(s.chunks) > 0 {
		b := &s.chunks[0]
		m := copy(p[n:], (*b.buf)[b.r:b.w])
		b.r += m
		n += m
		s.unread -= m
		if b.r == b.w {
			s.doneLocked(s.nextLocked())
		}
	}
	s.takenLocked(n)
	c.flushSoonLocked()
	return n, nil
}

// Await waits until a Read would return, or woken reports true; it is asked again after each
// [Stream.Wake]. woken must not call a method of the stream.
func (s *Stream) Await(woken func() bool) {
	c := s.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(s.chunks) == 0 && s.readErrLocked() == nil && !woken() {
		s.readable.Wait()
	}
}

// Wake has who waits in [Stream.Await] look again.
func (s *Stream) Wake() {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	s.readable.Broadcast()
}
