package agent

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/url"

	"ztm/tunnel"
	"ztm/tunnel/identity"
)

// The way of a dial-back, by which a peer gets a session with this endpoint:
//
//  1. event       the hub sends a ticket, and says for whom
//  2. place       there are so many of one peer, and so many in all, divided by user
//  3. carry       the second leg of the carrier
//  4. serveCarrier
//
// A ticket that is not answered is given back to the hub, whose opener would wait for it otherwise.

var errMadeRoom = errors.New("the place went to a peer of another user")

// dialBack opens the second leg of a carrier and serves what the peer seals in it. It does not block.
func (m *mesh) dialBack(s *tunnel.Session, hub identity.Subject, e tunnel.Event) {
	if !m.dialBacksOf.Acquire(e.Peer, m.limits.DialBacksPeer) {
		m.refuse(e, errors.New("the peer opens too many sessions at once"))
		return
	}
	ctx, cancel := context.WithCancelCause(m.life)
	// Whose the peer is, the hub says; the handshake will tell. Here it is for fairness alone.
	release, ok := m.dialBacks.Acquire(cmp.Or(e.User, string(e.Peer)), func() { cancel(errMadeRoom) })
	done := func() {
		cancel(nil)
		m.dialBacksOf.Release(e.Peer)
	}
	if !ok {
		done()
		m.refuse(e, errors.New("too many sessions are opened at once"))
		return
	}
	if !m.work.Go(func() {
		defer done()
		defer release()
		m.answerDialBack(ctx, s, hub, e)
	}) {
		release()
		done()
	}
}

func (m *mesh) answerDialBack(ctx context.Context, s *tunnel.Session, hub identity.Subject, e tunnel.Event) {
	carrier, err := m.carry(ctx, s, hub, m.agent.self, e.Ticket)
	switch {
	case err == nil:
		m.peers.Accept(ctx, carrier, e.Peer)
	case context.Cause(ctx) == errMadeRoom:
		m.refuse(e, errMadeRoom)
	default:
		m.log.Debug("dial-back failed", "peer", e.Peer, "err", err)
	}
}

// refuse has the hub told that a ticket will not be answered.
func (m *mesh) refuse(e tunnel.Event, why error) {
	m.peerLog.Warn("dial-back "+string(e.Peer), "a session was refused before its handshake", "peer", e.Peer, "user", e.User, "err", why)
	select {
	case m.refused <- e.Ticket:
	default: // the opener finds out by the time that passes
	}
}

// tellRefused gives tickets back to the hub.
func (m *mesh) tellRefused(ctx context.Context, s *tunnel.Session) {
	for {
		select {
		case ticket := <-m.refused:
			if err := s.Call(ctx, http.MethodDelete, tunnel.PathTickets+"/"+url.PathEscape(ticket), nil, nil, nil); err != nil {
				m.log.Debug("cannot tell the hub that a dial-back is not answered", "err", err)
			}
		case <-ctx.Done():
			return
		}
	}
}
