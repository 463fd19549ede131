package listen

import (
	"math/rand/v2"
	"time"
)

// Backoff is a delay that grows from Min to Max, with jitter, from one failure to the next. It is
// one goroutine's.
type Backoff struct {
	Min, Max time.Duration

	failures int
}

// First reports whether there was no failure since the last success: of a row of them, only the
// first is worth a line in the log.
func (b *Backoff) First() bool { return b.failures == 0 }

// Next returns the delay after one more failure: at least half of what it has grown to.
func (b *Backoff) Next() time.Duration {
	d := min(b.Min<<min(b.failures, 20), b.Max)
	b.failures++
	return d/2 + rand.N(d/2+1)
}

// Reset is called after a success.
func (b *Backoff) Reset() { b.failures = 0 }
