package give

import (
	"sync"

	"ztm/tunnel/identity"
)

// Receiver is a peer that gets content in a flow.
type Receiver interface {
	// Lost reports whether it has left a group by which it got something.
	Lost() (peer identity.ID, lost bool)
}

// Flows is the flows in which peers get content. The zero value is none. It is safe for concurrent use.
type Flows struct {
	mu  sync.Mutex
	all map[Receiver]struct{} // guarded by mu
}

// Add adds a flow that begins.
func (f *Flows) Add(r Receiver) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.all == nil {
		f.all = map[Receiver]struct{}{}
	}
	f.all[r] = struct{}{}
}

// Remove removes a flow that has ended.
func (f *Flows) Remove(r Receiver) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.all, r)
}

// Lost returns the peers that have left a group by which they got something.
func (f *Flows) Lost() map[identity.ID]bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	lost := map[identity.ID]bool{}
	for r := range f.all {
		if peer, is := r.Lost(); is {
			lost[peer] = true
		}
	}
	return lost
}
