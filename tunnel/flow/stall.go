package flow

import (
	"errors"
	"io"
	"sync"
	"time"

	"ztm/tunnel/capsule"
	"ztm/tunnel/h2"
)

// What a reader has not taken stays in the window of its session, and a few readers that have
// stopped would stop every flow there. So a flow that stalls is offloaded like one that moves much,
// and what the session still has of it goes to memory:
//
//	receiver   WriteTo waits in Write for stallTime   -> asks for a dedicated connection
//	           has one and waits                      -> the remainder is read up to MOVED, WriteTo goes on with that
//	entrance   net/http does not come for the next
//	           frame for stallTime                    -> asks for a dedicated connection
//
// The exit cannot ask; it is the entrance that sees its own frames stay.
const stallTime = 200 * time.Millisecond

// stopwatch knows how long something has been waited for. The zero value is ready. It is safe for
// concurrent use.
type stopwatch struct {
	mu     sync.Mutex
	timer  *time.Timer // guarded by mu; nil before the first begin
	since  time.Time   // guarded by mu; zero: nothing is waited for
	late   bool        // guarded by mu: it has been for stallTime
	stalls func()      // guarded by mu: called then; may be nil
}

func (w *stopwatch) begin() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.since = time.Now()
	if w.timer == nil {
		w.timer = time.AfterFunc(stallTime, w.fire)
	} else {
		w.timer.Reset(stallTime)
	}
}

func (w *stopwatch) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer != nil {
		w.timer.Stop()
	}
	w.since, w.late = time.Time{}, false
}

// fire is called by the timer, maybe late: then something else is waited for, or nothing.
func (w *stopwatch) fire() {
	w.mu.Lock()
	w.late = !w.since.IsZero() && time.Since(w.since) >= stallTime
	w.mu.Unlock()
	w.tell()
}

// onStall sets what is called at a stall, at once if there is one.
func (w *stopwatch) onStall(f func()) {
	w.mu.Lock()
	w.stalls = f
	w.mu.Unlock()
	w.tell()
}

func (w *stopwatch) tell() {
	w.mu.Lock()
	late, f := w.late, w.stalls
	w.mu.Unlock()
	if late && f != nil {
		f()
	}
}

func (w *stopwatch) isLate() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.late
}

// Stalled reports whether the flow is held up by whoever reads it, here or at the other end, and
// holds up its session with that.
func (c *Conn) Stalled() bool {
	b, entrance := c.out.(*requestBody)
	return !c.Offloaded() && (c.delivery.isLate() || entrance && b.pickup.isLate())
}

// errTakenOver ends the WriteTo of a stream whose remainder another goroutine reads.
var errTakenOver = errors.New("the remainder is read elsewhere")

// counted is the writer of WriteTo. It counts and times what is written.
type counted struct {
	io.Writer
	c *Conn
}

func (w counted) Write(p []byte) (int, error) {
	w.c.delivery.begin()
	n, err := w.Writer.Write(p)
	w.c.delivery.end()
	w.c.account(0, int64(n))
	if r := w.c.remainder.Load(); r != nil && err == nil {
		err = errTakenOver
	} else if r != nil {
		r.abandon()
	}
	return n, err
}

// relieve takes from the session what it has of the flow if that is due: at a stall, and when the
// dedicated connection comes.
func (c *Conn) relieve() {
	s, ok := c.in.(*capsule.Stream)
	if !ok || !c.Offloaded() {
		return
	}
	c.delivery.mu.Lock() // so that Write does not end meanwhile
	defer c.delivery.mu.Unlock()
	if c.delivery.late && c.remainder.Load() == nil {
		r := newRemainder()
		c.remainder.Store(r)
		go r.fill(s) // ends with the direction, or with the flow
	}
}

// remainder holds what has come of a direction in the session before it moved.
type remainder struct {
	mu   sync.Mutex
	cond sync.Cond
	b    []byte // guarded by mu
	err  error  // guarded by mu: how the direction ended here, nil before
	gone bool   // guarded by mu: nobody takes what is still to come
}

func newRemainder() *remainder {
	r := &remainder{}
	r.cond.L = &r.mu
	return r
}

// fill reads until the direction ends in the session. An honest peer has sent no more than a window
// when it hears of the dedicated connection.
func (r *remainder) fill(s *capsule.Stream) {
	most := h2.Sealed(0).StreamWindow + 2*chunk
	p := buffers.Get(chunk)
	defer buffers.Put(p)
	for {
		n, err := s.Read(*p)
		if !r.put((*p)[:n], err, most) {
			return
		}
	}
}

// put keeps b and reports whether there may be more.
func (r *remainder) put(b []byte, err error, most int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.b) > most && !r.gone {
		r.cond.Wait()
	}
	r.b, r.err = append(r.b, b...), err
	r.cond.Broadcast()
	return err == nil && !r.gone
}

// take waits for bytes, and returns how the direction ended after the last ones.
func (r *remainder) take() ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.b) == 0 && r.err == nil {
		r.cond.Wait()
	}
	b := r.b
	if r.b = nil; len(b) == 0 {
		return nil, r.err
	}
	r.cond.Broadcast()
	return b, nil
}

func (r *remainder) abandon() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gone = true
	r.cond.Broadcast()
}

// writeRemainder goes on where WriteTo lost the stream. The error is that of capsule.Stream.Read.
func (c *Conn) writeRemainder(w io.Writer) (total int64, err error) {
	r := c.remainder.Load()
	defer r.abandon()
	for {
		b, err := r.take()
		if err != nil {
			return total, err
		}
		n, err := w.Write(b)
		total += int64(n)
		c.account(0, int64(n))
		if err != nil {
			return total, err
		}
	}
}
