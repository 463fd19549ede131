package h2

import (
	"io"
	"slices"

	"ztm/tunnel/buffer"
	"ztm/tunnel/h2/wire"
	"ztm/tunnel/splice"
)

// sink is where a stream's bytes go without a goroutine that waits for them:
//
//	DATA, little, nothing is waiting -> the reader writes it to the socket itself, as far as that takes it without waiting
//	else                             -> inbox -> pump, a goroutine that ends when the inbox is empty
//	END_STREAM, nothing is waiting   -> the reader says so itself
//
// So what comes of a short flow wakes no other goroutine, which would take longer than the write.
type sink struct {
	w       io.Writer
	try     func(p []byte) int // writes without waiting; nil: only a pump writes
	pumping bool               // somebody writes to w
	total   int64
	done    func(n int64, err error)
}

// mostDirect is what the reader writes itself, in bytes. More is better left to another processor.
const mostDirect = 4 << 10

// Deliver has all that comes from now on written to w, until the peer's direction ends or something
// fails; then it calls done, once, with how many bytes w took. It returns at once, and no goroutine
// waits meanwhile. Nobody else may read the stream or write to w. If w fails, the stream is left to
// the caller, who resets it.
//
// done must not wait where err is nil: then it may be the connection's reader that calls it.
func (s *Stream) Deliver(w io.Writer, done func(n int64, err error)) {
	k := &sink{w: w, try: splice.Direct(w), done: done}
	c := s.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	s.sink = k
	if s.head != nil && c.client {
		s.openLocked(false)
		c.flushSoonLocked()
	}
	if len(s.chunks) == 1 {
		s.directFirstLocked()
	}
	s.wakeReaderLocked()
}

// WriteTo implements io.WriterTo.
func (s *Stream) WriteTo(w io.Writer) (n int64, err error) {
	done := make(chan struct{})
	s.Deliver(w, func(m int64, e error) {
		n, err = m, e
		close(done)
	})
	<-done
	return n, err
}

// wakeReaderLocked tells whoever takes what comes that there is more, or an end.
func (s *Stream) wakeReaderLocked() {
	if s.sink == nil {
		s.readable.Signal()
		return
	}
	if !s.sink.pumping && (len(s.chunks) > 0 || s.overLocked()) {
		s.sink.pumping = true
		go s.pump(s.sink) // ends when nothing is there, at the latest with the stream
	}
}

// overLocked reports whether no more will come.
func (s *Stream) overLocked() bool {
	return s.remoteEnd || s.closed || s.streamErrLocked() != nil
}

// pump writes what is there.
func (s *Stream) pump(k *sink) {
	c := s.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(s.chunks) > 0 {
		b := s.nextLocked()
		c.mu.Unlock()
		n, err := k.w.Write((*b.buf)[b.r:b.w])
		c.mu.Lock()
		k.total += int64(n)
		s.takenLocked(b.w - b.r)
		s.doneLocked(b)
		if err != nil {
			s.endSinkLocked(err)
			return
		}
	}
	if !s.overLocked() {
		k.pumping = false
		return
	}
	if s.wholeLocked() {
		s.endSinkLocked(nil)
		return
	}
	s.endSinkLocked(s.streamErrLocked())
}

// endDirectLocked ends a sink that has written all, if that takes no waiting. It may release the
// lock meanwhile.
func (s *Stream) endDirectLocked() (did bool) {
	k := s.sink
	if k == nil || k.try == nil || k.pumping || len(s.chunks) > 0 || !s.wholeLocked() {
		return false
	}
	k.pumping = true
	s.endSinkLocked(nil)
	return true
}

// endSinkLocked calls done. pumping stays set: nobody writes any longer.
func (s *Stream) endSinkLocked(err error) {
	k := s.sink
	s.dropLocked()
	total := k.total
	s.conn.mu.Unlock()
	k.done(total, err)
	s.conn.mu.Lock()
}

// directLocked writes a chunk to the socket of the sink, as far as that takes it now. It may release
// the lock meanwhile. A failure is left to the pump, which meets it again.
func (s *Stream) directLocked(b *chunk) {
	k := s.sink
	if k == nil || k.try == nil || k.pumping || b.w-b.r > mostDirect || len(s.chunks) > 0 || s.closed || s.streamErrLocked() != nil {
		return
	}
	k.pumping = true
	s.conn.mu.Unlock()
	n := k.try((*b.buf)[b.r:b.w])
	s.conn.mu.Lock()
	k.pumping = false
	k.total += int64(n)
	b.r += n
}

// directFirstLocked is directLocked for the one chunk that came before there was a sink.
func (s *Stream) directFirstLocked() {
	b := s.nextLocked()
	before := b.r
	s.directLocked(&b)
	if s.closed || streamError(s.err) != nil { // nobody wants it any longer
		b.r = b.w
	}
	s.takenLocked(b.r - before)
	if b.r == b.w {
		s.doneLocked(b)
		return
	}
	s.unread += b.w - b.r
	s.chunks = slices.Insert(s.chunks, 0, b)
}

// sources are what a stream is fed from.
var sources = buffer.NewClasses(1<<10, wire.MaxFrame)

// ReadFrom implements io.ReaderFrom. A silent source holds a small buffer.
func (s *Stream) ReadFrom(src io.Reader) (total int64, err error) {
	err = sources.Copy(s, src, func(n int64) { total += n })
	return total, err
}
