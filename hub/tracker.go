package hub

import "sync"

// tracker counts what is in flight, and lets nothing in after close. The zero value is open. It is
// safe for concurrent use.
type tracker struct {
	mu      sync.Mutex
	running int
	shut    bool
	empty   chan struct{} // closed when shut and nothing runs; made by close
}

// enter counts one more, unless the tracker is shut. After true the caller calls leave.
func (g *tracker) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut {
		return false
	}
	g.running++
	return true
}

func (g *tracker) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.running--; g.shut && g.running == 0 {
		close(g.empty)
	}
}

// close lets nothing in after this, and returns a channel that is closed once nothing is in flight. It
// is called once.
func (g *tracker) close() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut, g.empty = true, make(chan struct{})
	if g.running == 0 {
		close(g.empty)
	}
	return g.empty
}
