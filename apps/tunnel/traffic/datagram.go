// Datagrams between a flow and a UDP socket, at either end of a tunnel. The way of one datagram:
//
//	socket -> queue.Put -> (full: the oldest goes) -> queue.get -> flow.Write ~~~ flow.Read -> socket
//
//  1. A flow is as slow as its slowest hop and then makes its writer wait. A socket does not wait:
//     what it brings meanwhile waits in a queue that is bounded in datagrams and in bytes, for each
//     flow and for each tunnel.
//  2. The oldest datagram is the one to drop: who sent it has given it up, or sends it again.
//  3. Each direction of a flow has one goroutine, so that nothing is reordered. The one that writes to
//     the flow is there only while something waits: most flows are at rest, and a stack that has
//     written once is 8 KB.
//  4. A flow that carries nothing for a while ends: a UDP client leaves without a word.

package traffic

import (
	"context"
	"errors"
	"io"
	"math"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"ztm/apps/udp"
	"ztm/tunnel/splice"
)

const (
	// queueDatagrams and queueBytes bound the queue of one flow. A flow whose queue is empty may
	// always queue one.
	queueDatagrams = 256
	queueBytes     = 256 << 10
	// tunnelQueueBytes bounds all queues of one end of a tunnel together.
	tunnelQueueBytes = 4 << 20

	// keptBuffer is the largest buffer that a queue keeps for later datagrams, in bytes: enough for
	// what fits a frame.
	keptBuffer = 2 << 10
	// keptBuffers is how many it keeps.
	keptBuffers = 16

	// DefaultIdle is how long a flow of datagrams lives without any.
	DefaultIdle = time.Minute
)

// Queue holds datagrams between a socket that does not wait and a flow that does.
type Queue struct {
	total   *atomic.Int64 // bytes in all queues of the tunnel
	dropped *atomic.Int64

	drains sync.WaitGroup // the goroutine that drains, while there is one

	mu       sync.Mutex
	waiting  [][]byte
	bytes    int
	free     [][]byte
	closed   bool
	drain    func() // gets until there is nothing; nil: nobody has come for it yet
	draining bool
	over     func() // called when the queue is closed; nil: not
}

// NewQueue makes a queue. total counts the bytes in all queues that share it, dropped the datagrams
// that were dropped.
func NewQueue(total, dropped *atomic.Int64) *Queue {
	return &Queue{total: total, dropped: dropped}
}

// Put queues a copy of p, and drops the oldest datagrams if there are too many.
func (q *Queue) Put(p []byte) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return
	}
	for len(q.waiting) > 0 && (len(q.waiting) >= queueDatagrams || q.bytes+len(p) > queueBytes ||
		q.total.Load()+int64(len(p)) > tunnelQueueBytes) {
		q.freeLocked(q.takeLocked())
		q.dropped.Add(1)
	}
	if q.total.Load()+int64(len(p)) > tunnelQueueBytes {
		q.dropped.Add(1) // the other flows have filled the tunnel's share
		return
	}
	var b []byte
	if n := len(q.free); n > 0 {
		b, q.free = q.free[n-1], q.free[:n-1]
	}
	q.waiting = append(q.waiting, append(b[:0], p...))
	q.bytes += len(p)
	q.total.Add(int64(len(p)))
	q.drainLocked()
}

// serve has drain called, in one goroutine at a time, whenever datagrams wait: it gets until get
// reports false, and is not called again if it leaves before. over is called when the queue is closed.
func (q *Queue) serve(drain, over func()) {
	q.mu.Lock()
	q.drain, q.over = drain, over
	q.drainLocked()
	closed := q.closed
	q.mu.Unlock()
	if closed {
		over()
	}
}

func (q *Queue) drainLocked() {
	if q.drain == nil || q.draining || q.closed || len(q.waiting) == 0 {
		return
	}
	q.draining = true
	q.drains.Go(q.drain)
}

// get returns the next datagram. It reports false when none waits, or the queue was closed. The
// datagram is the caller's until it is given to release.
func (q *Queue) get() ([]byte, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) == 0 {
		q.draining = false
		return nil, false
	}
	return q.takeLocked(), true
}

// release gives back what get returned.
func (q *Queue) release(b []byte) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.freeLocked(b)
}

// Close drops what waits and what is still put.
func (q *Queue) Close() {
	q.mu.Lock()
	q.closed = true
	q.total.Add(-int64(q.bytes))
	q.waiting, q.bytes = nil, 0
	over := q.over
	q.mu.Unlock()
	if over != nil {
		over()
	}
}

func (q *Queue) takeLocked() []byte {
	b := q.waiting[0]
	q.waiting = q.waiting[1:]
	q.bytes -= len(b)
	q.total.Add(-int64(len(b)))
	return b
}

func (q *Queue) freeLocked(b []byte) {
	if cap(b) <= keptBuffer && len(q.free) < keptBuffers {
		q.free = append(q.free, b)
	}
}

// errIdle ends a flow of datagrams that had none for too long.
var errIdle = errors.New("no datagram for too long")

// Relay carries the datagrams of one flow.
type Relay struct {
	Flow     net.Conn
	Queue    *Queue             // towards the flow; whoever reads the socket fills it
	Send     func([]byte) error // towards the socket; an error is a datagram lost, net.ErrClosed the end
	Idle     time.Duration
	In, Out  func(int)     // called with the bytes that went to the flow, and that came from it
	ToRate   *bucket       // for what goes to the flow
	FromRate *bucket       // for what comes from it
	Dropped  *atomic.Int64 // counts what send did not take
	Up, Down int64         // bytes that went to the flow and came from it; right when run has returned
	last     atomic.Int64  // when a datagram passed, on the clock of began
	began    time.Time
}

// Run carries datagrams until the flow ends, ctx ends, the queue is closed or nothing has come for
// too long. It closes the flow and the queue.
func (r *Relay) Run(ctx context.Context) error {
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	closed := make(chan struct{}) // closed when the function below has run
	context.AfterFunc(ctx, func() {
		defer close(closed)
		if err := context.Cause(ctx); errors.Is(err, errIdle) || errors.Is(err, io.EOF) {
			r.Flow.Close()
		} else {
			splice.Abort(r.Flow)
		}
		r.Queue.Close()
	})
	defer r.watch(end)()

	r.Queue.serve(func() {
		if err := r.toFlow(ctx.Done()); err != nil {
			end(err)
		}
	}, func() { end(net.ErrClosed) })
	end(r.fromFlow(ctx.Done()))
	<-closed
	r.Queue.drains.Wait() // the queue is closed: nobody begins another
	return context.Cause(ctx)
}

// watch ends the flow when it has been idle for too long. The caller stops it.
func (r *Relay) watch(end context.CancelCauseFunc) (stop func() bool) {
	r.began = time.Now()
	var t *time.Timer
	t = time.AfterFunc(math.MaxInt64, func() {
		if left := r.Idle - (time.Since(r.began) - time.Duration(r.last.Load())); left > 0 {
			t.Reset(left)
		} else {
			end(errIdle)
		}
	})
	t.Reset(r.Idle) // now that t is set
	return t.Stop
}

// toFlow writes what waits in the queue.
func (r *Relay) toFlow(done <-chan struct{}) error {
	for {
		p, ok := r.Queue.get()
		if !ok {
			return nil
		}
		r.ToRate.pass(len(p), done)
		if _, err := r.Flow.Write(p); err != nil {
			return err
		}
		r.passed()
		r.In(len(p))
		r.Up += int64(len(p))
		r.Queue.release(p)
	}
}

func (r *Relay) fromFlow(done <-chan struct{}) error {
	in := udp.NewReader(r.Flow)
	for {
		var sent error
		err := in.Read(func(b []byte) {
			r.FromRate.pass(len(b), done)
			if sent = r.Send(b); sent == nil {
				r.passed()
				r.Out(len(b))
				r.Down += int64(len(b))
			}
		})
		switch {
		case err != nil:
			return err
		case errors.Is(sent, net.ErrClosed):
			return sent
		case sent != nil:
			r.Dropped.Add(1)
		}
	}
}

func (r *Relay) passed() { r.last.Store(int64(time.Since(r.began))) }
