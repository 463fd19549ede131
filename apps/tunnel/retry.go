package tunnel

import (
	"context"
	"math/rand/v2"
	"time"
)

// backoff is a delay that grows from min to max, with jitter, from one failure to the next.
type backoff struct {
	min, max time.Duration
	failures int
}

// next returns the delay after one more failure: at least half of what it has grown to.
func (b *backoff) next() time.Duration {
	d := min(b.min<<min(b.failures, 20), b.max)
	b.failures++
	return d/2 + rand.N(d/2+1)
}

// wait waits until d has passed, wake delivers or ctx ends. A nil wake never delivers.
func wait(ctx context.Context, d time.Duration, wake <-chan struct{}) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-wake:
	case <-ctx.Done():
	}
}
