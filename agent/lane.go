package agent

import (
	"context"
	"errors"
	"net"
	"time"

	"ztm/tunnel"
	"ztm/tunnel/flow"
	"ztm/tunnel/h2"
	"ztm/tunnel/identity"
	"ztm/tunnel/seal"
)

// A flow that moves much gets a carrier of its own, see package capsule. The entrance asks for it:
//
//  1. the request that opened the flow named it: header Ztm-Flow, a random word
//  2. carrier, seal with ALPN ztm-lane/1, header block: flow WORD
//  3. the exit looks the word up among the flows of that peer, answers :status 200, and moves; so does the entrance
//
// Where any of it fails, the flow stays where it is. The carrier is a connection of its own at both ends: a reader that stops would leave a lane in the
// control session unread, and its window is what the agent hears the hub through.
const (
	fieldFlow    = "flow"
	lanePatience = 10 * time.Second
)

// openLane moves a flow that this agent opened.
func (m *mesh) openLane(c *flow.Conn, peer identity.ID, word string) {
	ctx, cancel := context.WithTimeout(m.life, dialTimeout)
	defer cancel()
	lane, err := m.dialLane(ctx, peer)
	if err == nil {
		if err = askLane(lane, word); err == nil {
			c.Offload(lane)
			m.log.Debug("a flow was offloaded to a dedicated connection", "peer", peer)
			return
		}
		lane.Reset()
	}
	m.log.Debug("a flow is not offloaded", "peer", peer, "err", err)
}

func (m *mesh) dialLane(ctx context.Context, peer identity.ID) (*seal.Dedicated, error) {
	s, hub, err := m.session(ctx)
	if err != nil {
		return nil, err
	}
	carrier, err := m.carryAlone(ctx, s, hub, peer, "")
	if err != nil {
		return nil, err
	}
	return seal.ClientDedicated(ctx, carrier, m.verifier, m.certificate(), peer)
}

func askLane(lane *seal.Dedicated, word string) error {
	lane.SetDeadline(time.Now().Add(lanePatience))
	if err := tunnel.WriteHeader(lane, fieldFlow, word); err != nil {
		return err
	}
	h, err := tunnel.ReadHeader(lane)
	if err != nil {
		return err
	}
	if err := h.Err(); err != nil {
		return err
	}
	return lane.SetDeadline(time.Time{})
}

var (
	errNoFlow = errors.New("the peer has no such flow")
	errShared = errors.New("the path is a stream of the control session")
)

// serveLane takes the lane of a flow that a peer opened.
func (m *mesh) serveLane(a seal.Accepted, carrier net.Conn) {
	err := errShared
	lane := a.Dedicated
	if _, shared := carrier.(*h2.Stream); !shared {
		err = m.acceptLane(lane, a.Peer.ID)
	}
	if err != nil {
		m.log.Debug("a dedicated connection was refused", "peer", a.Peer.ID, "err", err)
		lane.Reset()
	}
}

func (m *mesh) acceptLane(lane *seal.Dedicated, peer identity.ID) error {
	lane.SetDeadline(time.Now().Add(lanePatience))
	h, err := tunnel.ReadHeader(lane)
	if err != nil {
		return err
	}
	return m.moveFlow(lane, peer, h[fieldFlow])
}

func (m *mesh) moveFlow(lane *seal.Dedicated, peer identity.ID, word string) error {
	m.mu.Lock()
	var conn *flow.Conn
	if f := m.named[flowKey{peer, word}]; f != nil && f.conn != nil && !f.laned {
		conn, f.laned = f.conn, true
	}
	m.mu.Unlock()
	if conn == nil {
		return errNoFlow
	}
	// The answer comes first: what the flow writes next is the lane's own.
	if err := tunnel.WriteHeader(lane, tunnel.FieldStatus, "200"); err != nil {
		return err
	}
	if err := lane.SetDeadline(time.Time{}); err != nil {
		return err
	}
	conn.Offload(lane)
	return nil
}
