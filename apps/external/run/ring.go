package run

import (
	"context"
	"io"
	"sync"
	"time"
)

// ringSize is how much of what a program wrote is kept, in bytes. It is in memory alone.
const ringSize = 64 << 10

// ringPace is how fast a program's output is taken, in bytes a second. One that writes more waits.
const ringPace = 640 << 10

// ring keeps the last of what a program wrote.
type ring struct {
	mu    sync.Mutex
	text  []byte        // at most ringSize; guarded by mu
	total int64         // of all that was written; guarded by mu
	more  chan struct{} // closed at the next write; guarded by mu
}

func newRing() *ring { return &ring{more: make(chan struct{})} }

// Write never fails.
func (r *ring) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.total += int64(len(p))
	r.text = append(r.text, p...)
	if over := len(r.text) - ringSize; over > 0 {
		r.text = append(r.text[:0], r.text[over:]...)
	}
	close(r.more)
	r.more = make(chan struct{})
	return len(p), nil
}

// since returns what was written behind the first from bytes, as far as it is kept, how much was
// written in all, and what is closed when there is more.
func (r *ring) since(from int64) (text []byte, total int64, more <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	kept := r.total - int64(len(r.text))
	if from < kept || from > r.total {
		from = kept
	}
	return append([]byte(nil), r.text[from-kept:]...), r.total, r.more
}

// take copies what a program writes until its last holder of the pipe has gone.
func (r *ring) take(from io.Reader) {
	buf := make([]byte, 16<<10)
	for {
		n, err := from.Read(buf)
		r.Write(buf[:n])
		if err != nil {
			return
		}
		<-time.After(time.Duration(n) * time.Second / ringPace)
	}
}

// Log returns what the program wrote behind the first from bytes of all that it wrote since the
// agent started, and the number to ask with for what comes next. With wait it returns when there is
// something new, or ctx ends.
func (r *Runner) Log(ctx context.Context, from int64, wait bool) (text []byte, next int64) {
	for {
		text, next, more := r.ring.since(from)
		if !wait || len(text) > 0 && next != from {
			return text, next
		}
		select {
		case <-more:
		case <-ctx.Done():
			return nil, next
		}
	}
}
