package peers

import (
	"cmp"
	"maps"
	"slices"

	"ztm/agent/limits"
	"ztm/tunnel/flow"
	"ztm/tunnel/identity"
)

// Traffic is what the flows with one peer have moved, in bytes, those that ended and those that
// run.
type Traffic struct {
	Sent, Received uint64
	Flows          int // open now
	Offloaded      int // of Flows: in a connection of their own
}

// Traffic adds up what flows have moved, by peer.
func (p *Peers) Traffic() map[identity.ID]Traffic {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := map[identity.ID]Traffic{}
	for id, t := range p.totals {
		all[id] = *t
	}
	live := func(peer identity.ID, c *flow.Conn) {
		t := all[peer]
		t.add(c)
		t.Flows++
		if c.Offloaded() {
			t.Offloaded++
		}
		all[peer] = t
	}
	for f := range p.outFlows {
		live(f.peer.ID, f.Conn)
	}
	for f := range p.flows {
		if f.conn != nil {
			live(f.peer.ID, f.conn)
		}
	}
	return all
}

func (t *Traffic) add(c *flow.Conn) {
	t.Sent += uint64(c.Sent())
	t.Received += uint64(c.Received())
}

// addTotalLocked counts a flow that has ended.
func (p *Peers) addTotalLocked(peer identity.ID, c *flow.Conn) { p.totalLocked(peer).add(c) }

// totalLocked is what the flows with a peer have moved that ended. Where there are too many peers the
// one that moved least is forgotten: endpoints of pods are new ones each time.
func (p *Peers) totalLocked(peer identity.ID) *Traffic {
	if t := p.totals[peer]; t != nil {
		return t
	}
	if len(p.totals) >= limits.Totals {
		delete(p.totals, slices.MinFunc(slices.Collect(maps.Keys(p.totals)), func(a, b identity.ID) int {
			return cmp.Compare(p.totals[a].Sent+p.totals[a].Received, p.totals[b].Sent+p.totals[b].Received)
		}))
	}
	t := &Traffic{}
	p.totals[peer] = t
	return t
}
