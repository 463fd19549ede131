package admission

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Handshakes are the connections whose peer is not known yet: in TLS, or before their request to
// join. Anybody can make them, so their number is limited, and the rules below say which one gives
// way.
//
//   - The hub never stops accepting. When all places are taken, a connection of the source with
//     most places gives way: the one that has kept the hub waiting longest. The search looks at all
//     of them, so one of many places makes several give way, of sources with about as many.
//   - When more than half are taken, connections that have kept the hub waiting for yieldCrowded
//     give way.
//   - A quarter of the places is kept for sources from which members connected lately.
//
// The waiting time of the hub counts, not the age of the connection. When thousands of agents
// return at once, the hub is slow and the agents are not; cutting the oldest would let none of them
// in. While no connection may give way, the next one waits.
type Handshakes struct {
	perSource     int           // static
	memberSources int           // static
	cut           *atomic.Int64 // counts those that gave way
	wake          chan struct{} // gets a token when a place is free; never closed

	mu       sync.Mutex
	unknown  places
	familiar places
	bySource map[netip.Addr]int
	ended    time.Time                // when the late ones were cut last
	members  map[netip.Addr]time.Time // sources of members, by when they were seen last
}

// places are those of one kind of source.
type places struct {
	most int
	open map[*Socket]struct{}
}

const (
	// An honest peer keeps the hub waiting for about one round trip in all.
	yieldAlone   = 250 * time.Millisecond // before the only connection of a source gives way
	yieldMany    = 50 * time.Millisecond  // before one of several does
	yieldCrowded = 3 * time.Second        // where more than half of the places are taken
	yieldShare   = 32                     // part of the places that gives way at once
	retryEnter   = 10 * time.Millisecond  // to look again whether a connection may give way

	endEvery = 100 * time.Millisecond // between two searches for connections that are late

	memberSourceLife = 24 * time.Hour // for which a source is familiar
)

// NewHandshakes makes so many places, of which one source gets some. It remembers so many sources
// of members, and counts in cut the connections that gave way.
func NewHandshakes(most, perSource, memberSources int, cut *atomic.Int64) *Handshakes {
	kept := most / 4
	return &Handshakes{
		perSource: perSource, memberSources: memberSources, cut: cut, wake: make(chan struct{}, 1),
		unknown:  places{most - kept, map[*Socket]struct{}{}},
		familiar: places{kept, map[*Socket]struct{}{}},
		bySource: map[netip.Addr]int{}, members: map[netip.Addr]time.Time{},
	}
}

// entry is the result of asking for a place.
type entry int

const (
	entered entry = iota
	refused       // the source has too many, and none of them is late
	full          // no connection may give way yet
)

// Enter takes a place for a connection and reports whether it has one. It returns without one if
// the source has too many, or when ctx ends. The caller gives the place back by Leave.
func (h *Handshakes) Enter(ctx context.Context, s *Socket) bool {
	for {
		switch h.try(s, time.Now()) {
		case entered:
			return true
		case refused:
			return false
		}
		t := time.NewTimer(retryEnter)
		select {
		case <-h.wake:
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return false
		}
		t.Stop()
	}
}

func (h *Handshakes) try(s *Socket, now time.Time) entry {
	h.mu.Lock()
	defer h.mu.Unlock()
	if now.Sub(h.ended) >= endEvery {
		h.ended = now
		h.endLocked(&h.familiar, now)
		h.endLocked(&h.unknown, now)
	}
	if h.bySource[s.From] >= h.perSource && !h.yieldLocked(now, s.From, &h.familiar, &h.unknown) {
		return refused
	}
	p := &h.unknown
	if now.Sub(h.members[s.From]) < memberSourceLife && (len(h.familiar.open) < h.familiar.most || len(p.open) >= p.most) {
		p = &h.familiar
	}
	if len(p.open) >= p.most && !h.yieldLocked(now, netip.Addr{}, p) {
		return full
	}
	p.open[s] = struct{}{}
	h.bySource[s.From]++
	return entered
}

// endLocked cuts the connections that have kept the hub waiting for long, where it is crowded.
func (h *Handshakes) endLocked(p *places, now time.Time) {
	if len(p.open) <= p.most/2 {
		return
	}
	for s := range p.open {
		if s.silence(now) >= yieldCrowded {
			h.cutLocked(s)
		}
	}
}

// yieldLocked cuts the connections that are first to give way, and reports whether there was one. A
// valid from restricts the choice to one source.
func (h *Handshakes) yieldLocked(now time.Time, from netip.Addr, of ...*places) bool {
	var all []late
	most := 0
	for _, p := range of {
		most += p.most
		for s := range p.open {
			if from.IsValid() && s.From != from {
				continue
			}
			n, silence := h.bySource[s.From], s.silence(now)
			if silence >= yieldAlone || n > 1 && silence >= yieldMany {
				all = append(all, late{s, n, silence})
			}
		}
	}
	slices.SortFunc(all, late.compare)
	for i, l := range all {
		if i > 0 && (i >= most/yieldShare || l.of <= all[0].of/2) {
			break
		}
		h.cutLocked(l.Socket)
	}
	return len(all) > 0
}

// late is a connection that may give way.
type late struct {
	*Socket
	of      int // how many its source has
	silence time.Duration
}

// compare orders by who gives way first.
func (l late) compare(m late) int {
	return cmp.Or(cmp.Compare(m.of, l.of), cmp.Compare(m.silence, l.silence))
}

func (h *Handshakes) cutLocked(s *Socket) {
	h.leaveLocked(s)
	s.Abort()
	h.cut.Add(1)
}

// Leave gives back the place of a connection, if it still has it.
func (h *Handshakes) Leave(s *Socket) {
	h.mu.Lock()
	h.leaveLocked(s)
	h.mu.Unlock()
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

func (h *Handshakes) leaveLocked(s *Socket) {
	for _, p := range []*places{&h.familiar, &h.unknown} {
		if _, there := p.open[s]; there {
			delete(p.open, s)
			if h.bySource[s.From]--; h.bySource[s.From] == 0 {
				delete(h.bySource, s.From)
			}
		}
	}
}

// Member notes that a member connects from a source.
func (h *Handshakes) Member(from netip.Addr, now time.Time) {
	h.mu.Lock()
	if _, known := h.members[from]; !known && len(h.members) >= h.memberSources {
		for other := range h.members { // an arbitrary one
			delete(h.members, other)
			break
		}
	}
	h.members[from] = now
	h.mu.Unlock()
}

// Sweep removes sources from which no member connected for memberSourceLife.
func (h *Handshakes) Sweep(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for from, seen := range h.members {
		if now.Sub(seen) >= memberSourceLife {
			delete(h.members, from)
		}
	}
}
