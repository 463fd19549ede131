package admission

import (
	"net/netip"
	"runtime"
	"sync"
)

// Turns bound how many handshakes compute at a time. A handshake takes a turn whenever it has read
// something, and gives it back before it reads on, so that nobody waits for a peer that is slow.
// Without them a flood of handshakes would take all processors, and paths that stand would wait
// behind it. Where turns are awaited, one of each source is served in rotation. Make them with
// [NewTurns].
type Turns struct {
	mu      sync.Mutex
	free    int
	waiting map[netip.Addr][]chan struct{} // by source, the oldest first; a turn is given by closing
	order   []netip.Addr                   // the sources that wait, the next one first
}

// NewTurns makes turns for half of the processors, one at least.
func NewTurns() *Turns { return newTurns(max(runtime.GOMAXPROCS(0)/2, 1)) }

func newTurns(n int) *Turns { return &Turns{free: n, waiting: map[netip.Addr][]chan struct{}{}} }

// take waits for a turn. It comes soon: those who have one only compute.
func (t *Turns) take(from netip.Addr) {
	if given := t.ask(from); given != nil {
		<-given
	}
}

// ask takes a turn, or returns what is closed when there is one.
func (t *Turns) ask(from netip.Addr) (given <-chan struct{}) {
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

// give gives a turn back, to the source that is next.
func (t *Turns) give() {
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
