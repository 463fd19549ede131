package h2

import (
	"time"

	"ztm/tunnel/buffer"
	"ztm/tunnel/h2/wire"
)

// The writing side of a connection:
//
//	Stream.Write -> appends frames to pending -> nobody flushes: it flushes itself, once;
//	                                             what came meanwhile is left to a goroutine that ends when nothing is pending
//
// So a small answer needs no other goroutine, and the frames of many streams that write at the same
// time share a TLS record and a system call. More than a few frames may not be pending: a stream
// that has more waits in a queue, and each flush grants those in front one frame each. A small
// write passes the queue, so a keystroke does not wait for a bulk flow.
type writer struct {
	pending    []byte
	spare      []byte    // for the next pending
	flushing   bool      // somebody is in a write, or is about to be
	broken     bool      // a write has failed
	began      time.Time // of the write that is in progress
	sendWindow int64     // of the connection
	initial    int64     // window of a new stream, as the peer has set it
	maxFrame   int       // of DATA, as the peer takes it
	queue      []*Stream // wait for a turn
	granted    int       // turns that were given and not taken
	starved    []*Stream // wait for the connection's window
	farewell   []byte    // GOAWAY, to be sent by the write that is in progress when the connection ends
}

const (
	mostPending = 4 * (wire.MaxFrame + wire.HeaderSize) // bytes that may be pending before a stream has to queue
	smallWrite  = 2 << 10                               // bytes of a write that does not queue
	keptPending = 2 << 10                               // bytes of pending that are kept while nothing is
)

// larger are what pending is while it is not small. Left to the collector they would be most of its
// work: a stream that moves much fills and empties one for each write.
var larger = buffer.NewClasses(wire.MaxFrame+smallWrite+1<<10, mostPending+wire.MaxFrame+2*smallWrite)

// makeRoomLocked makes room in pending for n bytes that are not small, or for as many as may be
// pending.
func (w *writer) makeRoomLocked(n int) {
	if n = min(n, mostPending); n <= smallWrite || len(w.pending)+n <= cap(w.pending) {
		return
	}
	b := (*larger.Get(len(w.pending) + n + smallWrite))[:0]
	old := w.pending
	w.pending = append(b, old...)
	dropPending(old)
}

// dropPending gives back what pending was.
func dropPending(b []byte) {
	if cap(b) > keptPending {
		b = b[:cap(b)]
		larger.Put(&b)
	}
}

func (w *writer) init() {
	w.sendWindow, w.initial, w.maxFrame = wire.FirstWindow, wire.FirstWindow, wire.LeastFrame
}

// flushLocked writes what is pending unless somebody is about it. It may release the lock
// meanwhile. It is not for the reader.
func (c *Conn) flushLocked() {
	if c.flushing || c.broken || len(c.pending) == 0 || c.err != nil {
		return
	}
	c.flushing = true
	c.writeLocked()
	c.restLocked()
}

// flushSoonLocked is flushLocked for who must not wait.
func (c *Conn) flushSoonLocked() {
	if !c.flushing && !c.broken && c.err == nil {
		c.flushing = true
		c.restLocked()
	}
}

// restLocked leaves what is pending to a goroutine. flushing is set.
func (c *Conn) restLocked() {
	if len(c.pending) == 0 || c.broken || c.err != nil {
		c.flushedLocked()
		return
	}
	go func() { // ends when nothing is pending, or with the connection
		c.mu.Lock()
		defer c.mu.Unlock()
		for len(c.pending) > 0 && !c.broken && c.err == nil {
			c.writeLocked()
		}
		c.flushedLocked()
	}()
}

// flushedLocked ends a flush. If the connection has ended meanwhile, its end is to be said now.
func (c *Conn) flushedLocked() {
	c.flushing = false
	if c.farewell != nil {
		go c.lingeringClose(c.farewell) // ends within a second
		c.farewell = nil
	}
}

// writeLocked writes once, without the lock.
func (c *Conn) writeLocked() {
	b := c.pending
	c.pending = c.spare[:0]
	c.spare = nil
	c.began = time.Now()
	c.mu.Unlock()
	_, err := c.rw.Write(b)
	c.mu.Lock()
	c.began = time.Time{}
	if cap(b) <= keptPending || len(c.pending) > 0 {
		c.spare = b
	} else {
		dropPending(b)
	}
	if len(c.pending) == 0 && cap(c.pending) > keptPending {
		dropPending(c.pending)
		c.pending = nil
	}
	switch {
	case c.err != nil: // it failed meanwhile; restLocked says so
	case err != nil:
		// What the peer said last may be there to be read, and says more than this error.
		c.broken, c.pending = true, nil
		time.AfterFunc(lastWord, func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.failLocked(err, wire.NoError)
		})
	}
	c.grantLocked()
}

// lastWord is how long the reader has to find out why a write failed.
const lastWord = time.Second

// roomLocked reports whether a write of n bytes may be appended to pending.
func (c *Conn) roomLocked(n int) bool {
	return len(c.pending) < mostPending || n <= smallWrite && len(c.pending) < 2*mostPending
}

// grantLocked gives turns to those who wait, as far as there is room.
func (c *Conn) grantLocked() {
	for len(c.queue) > 0 && len(c.pending)+c.granted*wire.MaxFrame < mostPending {
		s := c.queue[0]
		c.queue[0] = nil
		c.queue = c.queue[1:]
		s.queued, s.turn = false, true
		c.granted++
		s.writable.Signal()
	}
	if len(c.queue) == 0 {
		c.queue = nil
	}
}

// feedLocked wakes those who wait for the connection's window.
func (c *Conn) feedLocked() {
	for _, s := range c.starved {
		s.hungry = false
		s.writable.Signal()
	}
	c.starved = c.starved[:0]
}

func (c *Conn) wakeAllLocked() {
	for _, s := range c.queue {
		s.queued = false
		s.writable.Broadcast()
	}
	c.queue = nil
	c.feedLocked()
}

// Write implements net.Conn. It returns when all of p is on its way or in memory of the connection,
// within the windows.
func (s *Stream) Write(p []byte) (n int, err error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	c := s.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(p) > 0 {
		if err := s.writeErrLocked(); err != nil {
			s.passLocked()
			return n, err
		}
		m := s.allowedLocked(len(p))
		if m == 0 {
			continue
		}
		s.openLocked(false)
		c.makeRoomLocked(len(p))
		c.pending = append(wire.AppendHeader(c.pending, m, wire.FrameData, 0, s.id), p[:m]...)
		s.sendWindow -= int64(m)
		c.sendWindow -= int64(m)
		c.flood.Sent(m)
		s.sent += int64(m)
		s.bulk.addLocked(m)
		p = p[m:]
		n += m
	}
	c.flushLocked()
	return n, nil
}

// allowedLocked returns how much of n bytes may be sent as one frame now. If that is nothing it
// waits until something has changed, and returns 0.
func (s *Stream) allowedLocked(n int) int {
	c := s.conn
	m := int(min(int64(n), int64(min(c.maxFrame, wire.MaxFrame)), s.sendWindow, c.sendWindow))
	switch {
	case c.broken: // the reason is about to come
		s.openLocked(false)
		s.writable.Wait()
		return 0
	case m <= 0:
		s.openLocked(false) // or nobody would ever give a window
		s.passLocked()
		c.flushLocked()
		if min(s.sendWindow, c.sendWindow) > 0 || s.writeErrLocked() != nil {
			return 0
		}
		if s.sendWindow > 0 && !s.hungry {
			s.hungry = true
			c.starved = append(c.starved, s)
		}
		s.writable.Wait()
		return 0
	case s.turn:
		s.turn = false
		c.granted--
	case n > smallWrite && len(c.queue) > 0:
		s.queueLocked()
		return 0
	case !c.roomLocked(n):
		if c.flushing {
			s.queueLocked()
		} else {
			c.flushLocked()
		}
		return 0
	}
	return m
}

// queueLocked waits for a turn.
func (s *Stream) queueLocked() {
	c := s.conn
	if !s.queued {
		s.queued = true
		c.queue = append(c.queue, s)
	}
	if c.flushLocked(); !c.flushing && c.granted == 0 { // or nobody would give turns
		c.grantLocked()
	}
	if !s.turn && s.writeErrLocked() == nil {
		s.writable.Wait()
	}
}

// passLocked gives a turn on that cannot be used.
func (s *Stream) passLocked() {
	if s.turn {
		s.turn = false
		s.conn.granted--
		s.conn.grantLocked()
	}
}

// Flush sends the request or the answer of the stream if it was not sent with a byte yet.
func (s *Stream) Flush() error {
	c := s.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := s.streamErrLocked(); err != nil {
		return err
	}
	s.openLocked(false)
	c.flushLocked()
	return s.streamErrLocked()
}

// openLocked appends the HEADERS that have not been sent. end says that END_STREAM may go with
// them.
func (s *Stream) openLocked(end bool) {
	if s.head == nil {
		return
	}
	c := s.conn
	if s.id == 0 { // ids are used in order
		s.id = c.nextID
		c.nextID += 2
		c.streams[s.id] = s
		s.sendWindow = c.initial
		s.recvWindow.beginLocked(c, true)
	}
	end = end || s.endHead
	c.pending = wire.AppendSection(c.pending, s.id, s.head, end)
	s.head = nil
	if end {
		s.sentEndLocked()
	}
}

// CloseWrite ends the writing direction: the peer reads to the end, then io.EOF.
func (s *Stream) CloseWrite() error { return s.CloseWriteWith(nil) }

// CloseWriteWith is CloseWrite with fields that the peer finds in [Stream.Trailers].
func (s *Stream) CloseWriteWith(trailers Fields) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	c := s.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.ended {
		return nil
	}
	if err := s.writeErrLocked(); err != nil {
		return err
	}
	s.endLocked(trailers)
	c.flushLocked()
	return nil
}

// endLocked sends END_STREAM.
func (s *Stream) endLocked(trailers Fields) {
	if len(trailers) > 0 {
		s.openLocked(false)
		s.conn.pending = wire.AppendSection(s.conn.pending, s.id, trailers, true)
		s.sentEndLocked()
		return
	}
	if s.head != nil {
		s.openLocked(true)
		return
	}
	s.conn.pending = wire.AppendHeader(s.conn.pending, 0, wire.FrameData, wire.FlagEndStream, s.id)
	s.sentEndLocked()
}
