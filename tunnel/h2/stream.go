package h2

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"

	"ztm/tunnel/h2/wire"
)

// Stream is one stream. It is a net.Conn with CloseWrite and Reset. One goroutine may read while
// another writes. Make it with [Conn.Open]; [Options.Handler] gets those of the peer.
//
// Its states are those of RFC 9113 section 5.1, as two halves:
//
//	ended      we have sent END_STREAM
//	remoteEnd  the peer has sent END_STREAM
//	err        either side has reset it, or the connection is over
//
// It is open, and counts, until both halves have ended or there is an error.
type Stream struct {
	conn *Conn
	id   uint32 // 0: a stream of ours whose request is not sent yet

	// All guarded by conn.mu.
	head      Fields // HEADERS that are to be sent; nil: none
	endHead   bool   // with END_STREAM
	fields    Fields // the peer's: request or answer; nil before they came
	trailer   Fields
	ended     bool
	remoteEnd bool
	unwanted  bool // the peer has said all and takes no more
	closed    bool // Close or Reset was called here
	err       error
	answered  bool // the server's side: an answer was given
	serving   bool // its handler runs
	over      bool // it does not count any longer
	kept      bool // see Keep

	writing    sync.Mutex // held by one Write or CloseWrite at a time
	writable   sync.Cond
	sendWindow int64
	sent       int64
	queued     bool
	turn       bool
	hungry     bool

	readable sync.Cond
	inbox
	late      deadlines
	bulk      bulk
	onFailure func() // see OnFailure, Keep
}

var _ net.Conn = (*Stream)(nil)

func (c *Conn) newStream(id uint32) *Stream {
	s := &Stream{conn: c, id: id}
	s.writable.L, s.readable.L = &c.mu, &c.mu
	s.length = -1
	c.o.Budget.Opened(1)
	return s
}

var (
	errWriteAfterClose = errors.New("h2: write after CloseWrite")
	errReset           = wire.StreamError(wire.Cancel, "it was reset here")
	errUnwanted        = &Error{Code: wire.NoError, Reason: "it takes no more", Remote: true, Stream: true}
)

// Conn returns the connection of the stream.
func (s *Stream) Conn() *Conn { return s.conn }

func under[T any](s *Stream, field *T) T {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	return *field
}

// ID returns the number of the stream on its connection; 0 before its request was sent.
func (s *Stream) ID() uint32 { return under(s, &s.id) }

// Sent and Received return how many bytes have gone and come. Buffered returns how many have come
// and were not read.
func (s *Stream) Sent() int64 { return under(s, &s.sent) }

// Received: see Sent.
func (s *Stream) Received() int64 { return under(s, &s.got) }

// Buffered: see Sent.
func (s *Stream) Buffered() int { return under(s, &s.unread) }

// Trailers returns the fields that the peer has sent last; nil if there were none, or not yet.
func (s *Stream) Trailers() Fields { return under(s, &s.trailer) }

// Fields returns what the peer has sent first: at the server the request, at the client the answer
// or nil if it has not come.
func (s *Stream) Fields() Fields { return under(s, &s.fields) }

// OnFailure sets what is called once when the stream ends before its time, at once if it has:
// either side has reset it, or its connection is over. f must not wait, nor call a method of the
// stream or its connection. OnFailure is called once at most.
func (s *Stream) OnFailure(f func()) {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	if s.onFailure = f; s.err != nil {
		f()
	}
}

// Cancel ends the context of the request that came on the stream, see [Handler]. The stream goes on.
func (s *Stream) Cancel() {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	s.onFailure()
}

// Keep has a stream of the peer outlive its handler, without a goroutine. over is called once when it
// ends, at once if it has; it must not wait, nor call a method of the stream or its connection.
func (s *Stream) Keep(over func()) {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	s.kept, s.onFailure = true, over
	if s.over {
		over()
	}
}

// streamErrLocked returns why the stream is over before its time.
func (s *Stream) streamErrLocked() error {
	switch {
	case s.err != nil:
		return s.err
	case s.closed:
		return net.ErrClosed
	}
	return s.conn.err
}

// wholeLocked reports whether all that the peer says has come. That counts whatever becomes of the
// connection, and of our direction (RFC 9113 section 8.1); a reset with an error takes it back.
func (s *Stream) wholeLocked() bool {
	return s.remoteEnd && !s.closed && streamError(s.err) == nil
}

// readErrLocked returns why nothing more comes; nil if something may.
func (s *Stream) readErrLocked() error {
	if s.wholeLocked() {
		return io.EOF
	}
	if err := s.streamErrLocked(); err != nil {
		return err
	}
	return s.late.read.err()
}

// writeErrLocked returns why nothing can be written; nil if something can.
func (s *Stream) writeErrLocked() error {
	if s.unwanted && s.err == nil {
		return errUnwanted
	}
	if (s.ended || s.endHead && s.head == nil) && s.err == nil {
		return errWriteAfterClose
	}
	if err := s.streamErrLocked(); err != nil {
		return err
	}
	return s.late.write.err()
}

// WriteErr returns what a Write would fail with now; nil if there is nothing. It does not wait.
func (s *Stream) WriteErr() error {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	return s.writeErrLocked()
}

// Response sends the request if it was not sent, and waits for the answer. It is the client's. ctx
// governs the waiting alone.
func (s *Stream) Response(ctx context.Context) (Fields, error) {
	if err := s.Flush(); err != nil && s.Fields() == nil { // an answer may have come before a reset
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() {
		s.conn.mu.Lock()
		defer s.conn.mu.Unlock()
		s.readable.Broadcast()
	})
	defer stop()
	c := s.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	for s.fields == nil {
		if err := s.streamErrLocked(); err != nil {
			return nil, err
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		s.readable.Wait()
	}
	return s.fields, nil
}

// Respond answers a request. It is the server's, and is called once. The answer goes with the first
// bytes that are written or by [Stream.Flush]; end says that there are none, and then it goes at
// once.
func (s *Stream) Respond(f Fields, end bool) error {
	c := s.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := s.streamErrLocked(); err != nil {
		return err
	}
	if s.answered {
		return errors.New("h2: a second answer")
	}
	s.answered, s.head = true, f
	if end {
		s.endLocked(nil)
		c.flushLocked()
	}
	return nil
}

// sentEndLocked notes that END_STREAM is on its way.
func (s *Stream) sentEndLocked() {
	s.ended = true
	s.settleLocked()
}

// settleLocked takes the stream off the connection if both halves have ended.
func (s *Stream) settleLocked() {
	if s.err != nil || s.ended && s.remoteEnd {
		s.removeLocked()
	}
}

func (s *Stream) removeLocked() {
	c := s.conn
	if s.over {
		return
	}
	s.over = true
	c.o.Budget.Opened(-1)
	if s.id != 0 {
		delete(c.streams, s.id)
	}
	if c.ours(s.id) {
		c.own--
	} else if !s.serving || s.err == nil {
		c.theirs-- // before the peer, which may open another at once, sees the end
		s.serving = false
	}
	s.late.stop()
	if s.onFailure != nil && (s.err != nil || s.kept) {
		s.onFailure()
	}
}

// ours reports whether an id is of a stream that this side opens; 0 is one that is not sent yet.
func (c *Conn) ours(id uint32) bool { return id == 0 || (id%2 == 1) == c.client }

// failLocked ends the stream with an error, here: nothing is sent.
func (s *Stream) failLocked(err error) {
	if s.err == nil {
		s.err = err
	}
	s.removeLocked()
	s.writable.Broadcast()
	s.readable.Broadcast()
	s.wakeReaderLocked()
}

// Reset ends both directions so that the peer sees an error, not an end. It never waits.
func (s *Stream) Reset() error { return s.ResetWith(wire.Cancel) }

// ResetWith is Reset with a code.
func (s *Stream) ResetWith(code Code) error {
	c := s.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	s.resetLocked(code, errReset)
	return nil
}

// resetLocked sends RST_STREAM where the peer may still count on the stream.
func (s *Stream) resetLocked(code Code, why error) {
	c := s.conn
	if s.over && s.err == nil || s.err != nil {
		s.closed = true
		s.dropLocked()
		return
	}
	if s.id != 0 && c.err == nil {
		c.sayResetLocked(s.id, code)
	}
	s.closed = true
	s.dropLocked()
	s.failLocked(why)
}

// Close ends both directions. What was written before reaches the peer, which then reads io.EOF;
// what the peer still sends is lost. It never waits for the peer.
func (s *Stream) Close() error {
	c := s.conn
	clean := s.writing.TryLock() // somebody in the middle of a Write is cut off
	if clean {
		defer s.writing.Unlock()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.closed {
		return nil
	}
	switch {
	case s.err != nil || c.err != nil || s.id == 0 && s.head != nil && !s.endHead:
		s.closed = true
		s.dropLocked()
		s.failLocked(net.ErrClosed)
		return nil
	case !clean && !s.ended:
		s.resetLocked(wire.Cancel, errReset)
		return nil
	}
	if !s.ended {
		s.endLocked(nil)
	}
	if !s.remoteEnd { // RFC 9113 section 8.1: NO_ERROR asks the peer to stop sending, and takes nothing back
		c.sayResetLocked(s.id, wire.NoError)
		s.failLocked(net.ErrClosed)
	}
	s.closed = true
	s.dropLocked()
	s.readable.Broadcast()
	c.flushSoonLocked()
	return nil
}

type streamAddr struct{}

func (streamAddr) Network() string { return "h2" }
func (streamAddr) String() string  { return "stream" }

func (s *Stream) LocalAddr() net.Addr  { return streamAddr{} }
func (s *Stream) RemoteAddr() net.Addr { return streamAddr{} }
