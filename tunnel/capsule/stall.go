package capsule

import (
	"io"
	"sync"
	"time"

	"ztm/tunnel/h2"
)

// What a reader has not taken stays in the window of its session, and a few readers that have stopped would stop every flow there. So a flow
// that stalls gets a lane like one that moves much, and what the session still has of it goes to memory:
//
//	receiver   WriteTo waits in Write for stallTime -> asks for a lane
//	           has a lane and waits                 -> rest reads DATA … MOVED, WriteTo goes on with that
//	entrance   net/http does not come for the next frame for stallTime -> asks for a lane
//
// The exit cannot ask; it is the entrance that sees its own frames stay.
const stallTime = 200 * time.Millisecond

// watch knows how long something has been waited for. The zero value is ready.
type watch struct {
	mu     sync.Mutex
	timer  *time.Timer // guarded by mu; nil before the first begin
	since  time.Time   // guarded by mu; zero: nothing is waited for
	late   bool        // guarded by mu: it has been for stallTime
	stalls func()      // guarded by mu: called then; may be nil
}

func (w *watch) begin() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.since = time.Now()
	if w.timer == nil {
		w.timer = time.AfterFunc(stallTime, w.fire)
	} else {
		w.timer.Reset(stallTime)
	}
}

func (w *watch) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer != nil {
		w.timer.Stop()
	}
	w.since, w.late = time.Time{}, false
}

// fire is called by the timer, maybe late: then something else is waited for, or nothing.
func (w *watch) fire() {
	w.mu.Lock()
	w.late = !w.since.IsZero() && time.Since(w.since) >= stallTime
	w.mu.Unlock()
	w.tell()
}

// onStall sets what is called at a stall, at once if there is one.
func (w *watch) onStall(f func()) {
	w.mu.Lock()
	w.stalls = f
	w.mu.Unlock()
	w.tell()
}

func (w *watch) tell() {
	w.mu.Lock()
	late, f := w.late, w.stalls
	w.mu.Unlock()
	if late && f != nil {
		f()
	}
}

func (w *watch) isLate() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.late
}

// Stalled reports whether the flow is held up by whoever reads it, here or at the other end, and burdens its session with that.
func (c *Conn) Stalled() bool {
	p, entrance := c.out.(*puller)
	return !c.Moved() && (c.gives.isLate() || entrance && p.waits.isLate())
}

// watched is the writer of WriteTo. It counts, and it returns errTaken when rest has taken over the decoder.
type watched struct {
	io.Writer
	c *Conn
}

func (w watched) Write(p []byte) (int, error) {
	w.c.gives.begin()
	n, err := w.Writer.Write(p)
	w.c.gives.end()
	w.c.account(0, int64(n))
	if r := w.c.rest.Load(); r != nil && err == nil {
		err = errTaken
	} else if r != nil {
		r.abandon()
	}
	return n, err
}

// relieve takes from the session what it has of the flow if that is due: at a stall, and when the lane comes.
func (c *Conn) relieve() {
	d, ok := c.in.(*decoder)
	if !ok || !c.Moved() {
		return
	}
	c.gives.mu.Lock() // so that Write does not end meanwhile
	defer c.gives.mu.Unlock()
	if c.gives.late && c.rest.Load() == nil {
		r := newRest()
		c.rest.Store(r)
		go r.fill(d) // ends with the direction, or with the flow
	}
}

// rest holds what has come of a direction until it moves.
type rest struct {
	mu   sync.Mutex
	cond sync.Cond
	b    []byte // guarded by mu
	err  error  // guarded by mu: how the direction ended here, nil before
	gone bool   // guarded by mu: nobody takes any more
}

func newRest() *rest {
	r := &rest{}
	r.cond.L = &r.mu
	return r
}

// fill reads until the direction ends in the session. An honest peer has sent no more than a window when it hears of the lane.
func (r *rest) fill(d *decoder) {
	most := h2.Sealed(0).StreamWindow + 2*Frame
	p := buffers.Get().(*[]byte)
	defer buffers.Put(p)
	for {
		n, err := d.Read(*p)
		if !r.put((*p)[:n], err, most) {
			return
		}
	}
}

// put keeps b and reports whether there may be more.
func (r *rest) put(b []byte, err error, most int) bool {
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
func (r *rest) take() ([]byte, error) {
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

func (r *rest) abandon() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gone = true
	r.cond.Broadcast()
}

// writeRest goes on where WriteTo lost the decoder. The error is that of decoder.Read.
func (c *Conn) writeRest(w io.Writer) (total int64, err error) {
	r := c.rest.Load()
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
