package flow

import (
	"context"
	"errors"
	"sync/atomic"

	"ztm/tunnel/h2"
)

// A flow with a dedicated connection may go on in another, where a better path has come or one is to
// be left:
//
//	Reroute    the peer is asked in the new connection, and agrees, or refuses
//	sender     bytes, close_notify          | in the new one: bytes; of a direction that has ended, its end once more
//	receiver   reads to the close_notify    | and goes on reading in the new one
//	both past  the old one is closed
//
// Whoever has agreed, or has asked and has no answer yet, does not know what a close_notify in the
// old connection means: it waits for the answer. Where that never comes, the close_notify is a cut, as
// the peer may have gone on. One move at a time: the next one begins when both directions are through.

// fieldMoved is the trailer that ends a direction of the session which goes on in the dedicated
// connection.
const fieldMoved = "ztm-moved"

// movesOn reports whether the end that was read in the session says that the direction goes on.
func (c *Conn) movesOn() bool { return c.stream.Trailers().Get(fieldMoved) != "" }

// stage is a dedicated connection that a flow goes through, or has gone through.
type stage struct {
	conn Dedicated
	left int // directions that have gone on to the next one; guarded by offload.mu
}

// stages are the dedicated connections of a flow: the one that both directions end up in, and while
// it moves the one before. All is guarded by offload.mu, and what says so by more.
type stages struct {
	last    atomic.Pointer[stage] // nil before the first; may be read without the lock
	before  *stage                // not left by both directions yet; nil: none
	agrees  chan struct{}         // closed when a move in progress is agreed to, or is not; nil: there is none
	unknown bool                  // nobody knows whether the peer has agreed to the last move
	changed chan struct{}         // closed when a direction has gone on; nil: nobody waits for that

	reading *stage // read by the reading goroutine without the lock; nil: in the session
	readEnd bool   // the reading direction has ended
	writing *stage // read without the lock where Conn.sink is held; nil: in the session
}

var (
	errMoving  = errors.New("the flow is still on its way from one connection to another")
	errUnknown = errors.New("the connection broke in which the flow was to go on")
	errEnded   = errors.New("the flow has ended")
)

// Reroute has the flow go on in another dedicated connection. agree settles that with the peer: at the
// entrance it asks, at the exit it answers. Where the peer says no its error is a *[Refused]; after any
// other nobody knows what the peer does. The flow owns the connection once agree is called, and where it
// was closed meanwhile says its end there: that is no error, and the connection is not to be reset. Where
// both directions are not through with the move before, Reroute waits for that until ctx ends.
func (c *Conn) Reroute(ctx context.Context, d Dedicated, agree func() error) error {
	if err := c.offload.await(ctx, true); err != nil {
		return err
	}
	err := agree()
	ended := c.offload.settle(d, err)
	switch {
	case err != nil:
		d.Reset()
	case ended == closed: // here, in the old connection, which the peer has taken for a move
		if closeWriteSoon(d.CloseWrite) {
			go lingeringClose(d, func() { d.Reset() })
		} else {
			d.Reset()
		}
	case ended == wasReset:
		d.Reset()
		err = errEnded
	default:
		c.switchSoon()
	}
	return err
}

// Movable waits until both directions are through with the move before, and returns why the flow cannot go
// on in another connection. It is asked before one is dialled, and Reroute asks once more.
func (c *Conn) Movable(ctx context.Context) error { return c.offload.await(ctx, false) }

// await waits until a move can begin, and begins it or not.
func (o *offload) await(ctx context.Context, begin bool) error {
	for {
		wait, err := o.movable(begin)
		if wait == nil {
			return err
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return errMoving
		}
	}
}

// movable begins a move if it is to, fails, or returns what is to be waited for.
func (o *offload) movable(begin bool) (wait <-chan struct{}, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	last := o.last.Load()
	switch {
	case o.ended != lives || last == nil:
		return nil, errEnded
	case o.unknown:
		return nil, errUnknown
	case o.agrees == nil && o.writing == last && (o.reading == last || o.readEnd):
		if begin {
			o.agrees = make(chan struct{})
		}
		return nil, nil
	}
	if o.changed == nil {
		o.changed = make(chan struct{})
	}
	return o.changed, nil
}

// changedLocked wakes a move that waits for the one before.
func (o *offload) changedLocked() {
	if o.changed != nil {
		close(o.changed)
		o.changed = nil
	}
}

// settle ends the move that await has begun, as agree has ended, and returns how the flow has ended
// meanwhile.
func (o *offload) settle(d Dedicated, err error) ending {
	o.mu.Lock()
	defer o.mu.Unlock()
	close(o.agrees)
	o.agrees = nil
	switch {
	case err == nil && o.ended == lives:
		o.before = o.last.Load()
		o.last.Store(&stage{conn: d})
		if o.readEnd {
			o.before.left++
		}
	case err != nil && !errors.As(err, new(*Refused)):
		o.unknown = true
	}
	o.changedLocked()
	return o.ended
}

// openLocked returns the connections that are open.
func (o *offload) openLocked() (all []Dedicated) {
	if last := o.last.Load(); last != nil {
		all = append(all, last.conn)
	}
	if o.before != nil {
		all = append(all, o.before.conn)
	}
	return all
}

// leaveLocked says that a direction has gone on from a stage, which is closed with the second one.
func (o *offload) leaveLocked(s *stage) {
	if s != nil {
		if s.left++; s.left == 2 {
			o.before = nil
			go s.conn.Close() // may wait a second for the peer
		}
	}
	o.changedLocked()
}

// readOn is called by the reading goroutine at the end of what it reads. It reports whether the
// direction goes on.
func (c *Conn) readOn() (bool, error) {
	o := &c.offload
	o.mu.Lock()
	agrees := o.agrees
	o.mu.Unlock()
	if agrees != nil && o.reading != nil {
		<-agrees // which takes as long as one answer at most
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	last := o.last.Load()
	switch {
	case o.readEnd:
	case o.reading != nil && o.unknown && o.reading == last:
		return false, errUnknown
	case o.reading != nil && o.reading != last:
		o.leaveLocked(o.reading)
		o.reading = last
		return true, nil
	default:
		o.readEnd = true
		o.changedLocked()
	}
	return false, nil
}

// switchSoon has the writing direction go on in the newest connection as soon as no write is in
// progress, and at once where it is at rest.
func (c *Conn) switchSoon() {
	go func() { // ends with the write in progress, or with the flow
		c.sink.Lock()
		defer c.sink.Unlock()
		c.switchWritingLocked() // what failed, the next write finds out
	}()
}

// switchWritingLocked switches the writing direction if it is time to, and returns where it is: nil
// in the session. c.sink is held.
func (c *Conn) switchWritingLocked() (Dedicated, error) {
	o := &c.offload
	from, to := o.writing, o.last.Load()
	if from == to {
		if to == nil {
			return nil, nil
		}
		return to.conn, nil
	}
	if err := c.leaveWritingLocked(from, to); err != nil {
		return nil, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.writing = to
	o.leaveLocked(from)
	return to.conn, nil
}

// leaveWritingLocked says in one stage that the writing direction goes on in the next one; and there
// that it has ended, if it has. c.sink is held.
func (c *Conn) leaveWritingLocked(from, to *stage) error {
	switch {
	case c.finished:
		return to.conn.CloseWrite()
	case from != nil:
		return from.conn.CloseWrite()
	}
	return c.stream.CloseWriteWith(h2.Fields{{Name: fieldMoved, Value: "?1"}})
}

// switchWriting is switchWritingLocked for whoever is about to send.
func (c *Conn) switchWriting() (Dedicated, error) {
	c.sink.Lock()
	defer c.sink.Unlock()
	if c.finished {
		return nil, errWriteAfterClose
	}
	return c.switchWritingLocked()
}

// sendLocked sends bytes where the writing direction is. c.wmu is held.
func (c *Conn) sendLocked(p []byte) (int, error) {
	c.sink.Lock()
	defer c.sink.Unlock()
	if c.finished {
		return 0, errWriteAfterClose
	}
	d, err := c.switchWritingLocked()
	if err != nil || len(p) == 0 {
		return 0, err
	}
	if c.answer != nil {
		c.answer.Stop()
		c.answer = nil
	}
	if d == nil {
		return c.stream.Write(p)
	}
	n, err := d.Write(p)
	c.sent.Add(int64(n))
	return n, err
}

// sending is the writing direction as a writer, for whoever holds wmu.
type sending struct{ c *Conn }

func (s sending) Write(p []byte) (int, error) { return s.c.sendLocked(p) }
