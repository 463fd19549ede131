package traffic

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
)

// maxPeers bounds the peers that are counted apart; what more peers do is counted in the total
// alone.
const maxPeers = 1000

// Stats is what has passed through one inbound or outbound since the agent started.
type Stats struct {
	Counts
	Dropped   int64                 `json:"dropped,omitempty"`   // datagrams that were dropped because they came too fast
	Errors    map[answer.Code]int64 `json:"errors,omitempty"`    // connections that failed before a flow began, by reason
	LastError string                `json:"lastError,omitempty"` // the text of the last of them
	Peers     []PeerCounts          `json:"peers,omitempty"`     // by the endpoint at the other end, sorted by ID
}

// Counts counts flows, and bytes of the people's data: what the mesh adds is not in it.
type Counts struct {
	Active int64 `json:"active"` // flows right now
	Flows  int64 `json:"flows"`
	Up     int64 `json:"up"`   // bytes from clients to targets
	Down   int64 `json:"down"` // bytes from targets to clients
}

// PeerCounts counts what passed between this endpoint and another.
type PeerCounts struct {
	ID identity.ID `json:"id"`
	Counts
}

// counter is a live Counts.
type counter struct {
	active, flows, up, down atomic.Int64
}

func (c *counter) counts() Counts {
	return Counts{Active: c.active.Load(), Flows: c.flows.Load(), Up: c.up.Load(), Down: c.down.Load()}
}

// Counters is a live Stats. The zero value is ready.
type Counters struct {
	total   counter
	Dropped atomic.Int64

	mu     sync.Mutex
	peers  map[identity.ID]*counter
	errors map[answer.Code]int64
	last   string // the text of the last error
}

// Flow counts a flow with a peer as begun. The caller reports its bytes to the result and ends it.
func (s *Counters) Flow(peer identity.ID) *Tally {
	t := &Tally{&s.total, s.peer(peer)}
	for _, c := range t {
		c.active.Add(1)
		c.flows.Add(1)
	}
	return t
}

func (s *Counters) peer(id identity.ID) *counter {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.peers == nil {
		s.peers = map[identity.ID]*counter{}
	}
	c := s.peers[id]
	if c == nil {
		c = &counter{}
		if len(s.peers) < maxPeers {
			s.peers[id] = c
		}
	}
	return c
}

// Failed counts a connection that did not become a flow.
func (s *Counters) Failed(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.errors == nil {
		s.errors = map[answer.Code]int64{}
	}
	s.errors[answer.CodeOf(err)]++
	s.last = err.Error()
}

// Snapshot returns the counters as they are now.
func (s *Counters) Snapshot() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := Stats{Counts: s.total.counts(), Dropped: s.Dropped.Load(), Errors: maps.Clone(s.errors), LastError: s.last}
	for _, id := range slices.Sorted(maps.Keys(s.peers)) {
		out.Peers = append(out.Peers, PeerCounts{id, s.peers[id].counts()})
	}
	return out
}

// Tally is where one flow is counted: in the total and for its peer.
type Tally [2]*counter

// Up counts bytes from the client.
func (t *Tally) Up(n int) {
	for _, c := range t {
		c.up.Add(int64(n))
	}
}

// Down counts bytes to the client.
func (t *Tally) Down(n int) {
	for _, c := range t {
		c.down.Add(int64(n))
	}
}

// End is called when the flow is over.
func (t *Tally) End() {
	for _, c := range t {
		c.active.Add(-1)
	}
}
