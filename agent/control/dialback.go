package control

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/url"

	"ztm/tunnel"
)

// The way of a dial-back, by which a peer gets a session with this endpoint:
//
//  1. event       the hub sends a ticket, and says for whom
//  2. place       there are so many of one peer, and so many in all, divided by user
//  3. carry       the other end of the path
//  4. Accept
//
// A ticket that is not answered is given back to the hub, whose opener would wait for it otherwise.

var errMadeRoom = errors.New("the place went to a peer of another user")

// dialBack opens the other end of a path and serves what the peer seals in it. It does not block.
func (c *Control) dialBack(l *link, e tunnel.Event) {
	if !c.dialBacksOf.Acquire(e.Peer, c.Limits.DialBacksPeer) {
		c.refuse(l, e, errors.New("the peer opens too many sessions at once"))
		return
	}
	ctx, cancel := context.WithCancelCause(c.Life)
	// Whose the peer is, the hub says; the handshake will tell. Here it is for fairness alone.
	release, ok := c.dialBacks.Acquire(whose(e), func() { cancel(errMadeRoom) })
	done := func() {
		cancel(nil)
		c.dialBacksOf.Release(e.Peer)
	}
	if !ok {
		done()
		c.refuse(l, e, errors.New("too many sessions are opened at once"))
		return
	}
	if !c.Work.Go(func() {
		defer done()
		defer release()
		c.answerDialBack(ctx, l, e)
	}) {
		release()
		done()
	}
}

// whose is who pays for a dial-back: the user, or the endpoint where the hub names none.
func whose(e tunnel.Event) string { return cmp.Or(e.User, string(e.Peer)) }

func (c *Control) answerDialBack(ctx context.Context, l *link, e tunnel.Event) {
	path, err := c.relay(ctx, l, c.Self, e.Ticket)
	switch {
	case err == nil:
		c.Accept(ctx, path, e.Peer, whose(e), l.hub.ID)
	case context.Cause(ctx) == errMadeRoom:
		c.refuse(l, e, errMadeRoom)
	default:
		c.Log.Debug("dial-back failed", "peer", e.Peer, "err", err)
	}
}

// refuse has the hub told that a ticket will not be answered.
func (c *Control) refuse(l *link, e tunnel.Event, why error) {
	c.PeerLog.Warn("dial-back "+string(e.Peer), "a session was refused before its handshake", "peer", e.Peer, "user", e.User, "err", why)
	select {
	case l.refused <- e.Ticket:
	default: // the opener finds out by the time that passes
	}
}

// tellRefused gives a ticket back to the hub.
func (l *link) tellRefused(ctx context.Context, ticket string) {
	err := l.session.Call(ctx, http.MethodDelete, tunnel.PathTickets+"/"+url.PathEscape(ticket), nil, nil, nil)
	if err != nil {
		l.c.Log.Debug("cannot tell the hub that a dial-back is not answered", "err", err)
	}
}
