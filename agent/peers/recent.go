package peers

import (
	"ztm/agent/limits"
	"ztm/tunnel/identity"
)

// recent remembers the IDs of the flows that peers opened last and that were accepted. A peer whose
// session broke opens its flow once more; if the first request arrived after all, the second must
// not run the app again. It is empty at first. It is not safe for concurrent use.
type recent struct {
	most  int                      // flow IDs of a peer
	peers map[identity.ID]*flowIDs // at most limits.FlowPeers
	turn  uint64                   // counts additions
}

// flowIDs are the last flow IDs of one peer.
type flowIDs struct {
	ring []string            // at most recent.most
	all  map[string]struct{} // those in ring
	next int                 // where the oldest is, once the ring is full
	used uint64              // turn of the last addition
}

// maxFlowID is the length of a flow ID, in bytes; ours have 26.
const maxFlowID = 64

// has reports whether a peer opened a flow with this ID. A flow without an ID is always new.
func (r *recent) has(peer identity.ID, id string) bool {
	p := r.peers[peer]
	if id == "" || p == nil {
		return false
	}
	_, ok := p.all[id]
	return ok
}

// add remembers a flow ID. Each peer has its own ring, so that one that opens many flows does not
// make another's be forgotten.
func (r *recent) add(peer identity.ID, id string) {
	if id == "" || len(id) > maxFlowID {
		return
	}
	r.turn++
	p := r.peers[peer]
	if p == nil {
		p = r.place(peer)
	}
	p.used = r.turn
	if r.has(peer, id) {
		return
	}
	p.all[id] = struct{}{}
	if len(p.ring) < r.most {
		p.ring = append(p.ring, id)
		return
	}
	delete(p.all, p.ring[p.next])
	p.ring[p.next] = id
	p.next = (p.next + 1) % r.most
}

// place makes a ring for a peer, in place of the one that was not used for longest if there are
// many.
func (r *recent) place(peer identity.ID) *flowIDs {
	if r.peers == nil {
		r.peers = map[identity.ID]*flowIDs{}
	}
	if len(r.peers) >= limits.FlowPeers {
		var oldest identity.ID
		for id, p := range r.peers {
			if oldest == "" || p.used < r.peers[oldest].used {
				oldest = id
			}
		}
		delete(r.peers, oldest)
	}
	p := &flowIDs{all: map[string]struct{}{}}
	r.peers[peer] = p
	return p
}
