package peers

import (
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
func (p *Peers) addTotalLocked(peer identity.ID, c *flow.Conn) {
	t := p.totals[peer]
	if t == nil {
		t = &Traffic{}
		p.totals[peer] = t
	}
	t.add(c)
}
