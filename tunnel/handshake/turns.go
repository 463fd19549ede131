package handshake

import (
	"runtime"
	"sync"
)

// Turns bound how many handshakes compute at a time. A handshake takes a turn whenever it has read
// something, and gives it back before it reads on, so that nobody waits for a peer that is slow.
// Without them a flood of handshakes would take all processors, and what stands would wait behind
// it. Where turns are awaited, one of each source is served in rotation. Make them with [NewTurns].
type Turns[K comparable] struct {
	mu      sync.Mutex
	free    int
	waiting map[K][]chan struct{} // by source, the oldest first; a turn is given by closing
	order   []K                   // the sources that wait, the next one first
}

// NewTurns makes turns for half of the processors, one at least.
func NewTurns[K comparable]() *Turns[K] { return NewSomeTurns[K](max(runtime.GOMAXPROCS(0)/2, 1)) }

// NewSomeTurns makes n turns.
func NewSomeTurns[K comparable](n int) *Turns[K] {
	return &Turns[K]{free: n, waiting: map[K][]chan struct{}{}}
}

// Of returns the turn of one handshake with a source, which it does not have yet.
func (t *Turns[K]) Of(from K) *Turn {
	return &Turn{acquire: func() { t.acquire(from) }, release: t.release}
}

// Waiting returns how many handshakes with a source wait for a turn.
func (t *Turns[K]) Waiting(from K) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.waiting[from])
}

// acquire waits for a turn. It comes soon: those who have one only compute.
func (t *Turns[K]) acquire(from K) {
	if given := t.ask(from); given != nil {
		<-given
	}
}

// ask takes a turn, or returns what is closed when there is one.
func (t *Turns[K]) ask(from K) (given <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.free > 0 {
		t.free--
		return nil
	}
	if len(t.waiting[from]) == 0 {
		t.order = append(t.order, from)
	}
	c := make(chan struct{})
	t.waiting[from] = append(t.waiting[from], c)
	return c
}

// release gives a turn back, to the source that is next.
func (t *Turns[K]) release() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.order) == 0 {
		t.free++
		return
	}
	from := t.order[0]
	t.order = t.order[1:]
	queue := t.waiting[from]
	close(queue[0])
	if queue = queue[1:]; len(queue) == 0 {
		delete(t.waiting, from)
		return
	}
	t.waiting[from] = queue
	t.order = append(t.order, from)
}

// Turn is the turn of one handshake. It belongs to the goroutine that reads. nil is for who needs
// none.
type Turn struct {
	acquire, release func()
	has              bool
}

// Acquire waits for the turn, unless the handshake has it.
func (t *Turn) Acquire() {
	if t != nil && !t.has {
		t.acquire()
		t.has = true
	}
}

// Release gives the turn back, if the handshake has it.
func (t *Turn) Release() {
	if t != nil && t.has {
		t.has = false
		t.release()
	}
}
