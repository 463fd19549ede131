// Package inflight tracks work that runs, so that its owner can let nothing new begin and wait for
// the rest.
package inflight

import (
	"sync"

	"ztm/tunnel/limit"
)

// Tracker tracks work. The zero value is open. It is safe for concurrent use.
type Tracker struct {
	mu      sync.Mutex
	running int
	shut    bool
	empty   chan struct{} // closed when shut and nothing runs; made by Close
}

// Enter counts one more, unless the Tracker was closed. A success is followed by one Leave.
func (t *Tracker) Enter() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.shut {
		return false
	}
	t.running++
	return true
}

// Leave counts one out.
func (t *Tracker) Leave() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.running--; t.shut && t.running == 0 {
		close(t.empty)
	}
}

// Go runs f in a goroutine that is tracked, and reports whether it does.
func (t *Tracker) Go(f func()) bool {
	if !t.Enter() {
		return false
	}
	go func() { // Close tells when it has ended
		defer t.Leave()
		f()
	}()
	return true
}

// GoUpTo is Go unless most others of that kind run already.
func (t *Tracker) GoUpTo(kind *limit.Counts[struct{}], most int, f func()) bool {
	if !kind.Acquire(struct{}{}, most) {
		return false
	}
	if t.Go(func() {
		defer kind.Release(struct{}{})
		f()
	}) {
		return true
	}
	kind.Release(struct{}{})
	return false
}

// Close lets nothing new begin, and returns a channel that is closed when nothing runs any longer. It
// may be called again.
func (t *Tracker) Close() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.shut {
		return t.empty
	}
	t.shut, t.empty = true, make(chan struct{})
	if t.running == 0 {
		close(t.empty)
	}
	return t.empty
}
