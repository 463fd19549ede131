package sink

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"ztm/agent/audit"
)

// Limits of what waits for a place.
const (
	maxQueue   = 2048             // entries
	maxBatch   = 256 << 10        // bytes
	firstRetry = time.Second      // after a failure, doubled with each
	lastRetry  = time.Minute      // no longer than that
	lastWords  = 2 * time.Second  // for what waits at the end
	writeTime  = 30 * time.Second // of one batch
)

// writer is a place. Its methods are called from one goroutine.
type writer interface {
	// gathers is how long entries are waited for to be written together.
	gathers() time.Duration

	// write writes entries. An error that is [errNever] is final for them; after any other the same
	// entries come again.
	write(ctx context.Context, batch []audit.Entry) error

	close() error
}

// errNever wraps the failures after which it is no use to try again.
var errNever = errors.New("refused")

// queue is what waits for one place.
type queue struct {
	name    string
	to      writer
	log     *slog.Logger
	in      chan audit.Entry // closed by end
	dropped atomic.Int64     // since they were reported
	final   context.Context  // ends a moment after end
	stop    context.CancelFunc
}

func newQueue(name string, to writer, log *slog.Logger) *queue {
	q := &queue{name: name, to: to, log: log, in: make(chan audit.Entry, maxQueue)}
	q.final, q.stop = context.WithCancel(context.Background())
	return q
}

// put adds an entry, or drops it where too many wait. It is not called after end.
func (q *queue) put(e audit.Entry) {
	select {
	case q.in <- e:
	default:
		q.dropped.Add(1)
	}
}

// end has run write what there is and return soon.
func (q *queue) end() {
	close(q.in)
	time.AfterFunc(lastWords, q.stop)
}

// run writes what comes until end.
func (q *queue) run() {
	defer q.stop()
	for {
		batch, more := q.gather()
		if len(batch) > 0 {
			q.write(batch)
		}
		if !more {
			break
		}
	}
	if err := q.to.close(); err != nil {
		q.log.Warn("the audit log could not be closed", "to", q.name, "err", err)
	}
}

// gather waits for an entry, and takes what comes soon after it.
func (q *queue) gather() (batch []audit.Entry, more bool) {
	e, more := <-q.in
	if !more {
		return nil, false
	}
	late := time.NewTimer(q.to.gathers())
	defer late.Stop()
	for size := 0; ; {
		batch = append(batch, e)
		if size += len(e.Text) + 1; size >= maxBatch {
			return batch, true
		}
		select {
		case e, more = <-q.in:
			if !more {
				return batch, false
			}
		case <-late.C:
			return batch, true
		}
	}
}

// write writes a batch, however often that takes. Meanwhile the queue fills.
func (q *queue) write(batch []audit.Entry) {
	for wait := firstRetry; ; wait = min(2*wait, lastRetry) {
		ctx, cancel := context.WithTimeout(q.final, writeTime)
		err := q.to.write(ctx, batch)
		cancel()
		if err == nil {
			return
		}
		if wait == firstRetry || errors.Is(err, errNever) {
			q.log.Warn("the audit log cannot be written", "to", q.name, "lines", len(batch), "err", err)
		}
		if errors.Is(err, errNever) || q.final.Err() != nil {
			q.dropped.Add(int64(len(batch)))
			return
		}
		select {
		case <-time.After(wait/2 + rand.N(wait)):
		case <-q.final.Done():
		}
	}
}
