package agent

import (
	"ztm/agent/api"
	"ztm/tunnel/identity"
)

// stats adds up what flows have moved, those that ended and those that run.
func (m *mesh) stats() api.Stats {
	s := api.Stats{Peers: map[identity.ID]api.PeerStats{}}
	for id, t := range m.peers.Traffic() {
		s.Peers[id] = api.PeerStats{Name: m.known.NameOf(id), Sent: t.Sent, Received: t.Received, Active: t.Flows, Offloaded: t.Offloaded}
		s.Sent, s.Received = s.Sent+t.Sent, s.Received+t.Received
		s.Active, s.Offloaded = s.Active+t.Flows, s.Offloaded+t.Offloaded
	}
	return s
}
