package relay

import (
	"context"
	"errors"
	"net"

	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
)

// A path whose ends are on two hubs has a middle leg, the hop:
//
//	A ── leg ── hub 1 ── hop ── hub 2 ── leg ── B
//
//  1. A asks hub 1, which does not have B, and asks a hub that says it has (elsewhere; link.Hop).
//  2. Hub 2 serves the hop as it serves the leg of an agent: ticket, dial-back, B's leg, 200
//     (Hop). It asks no other hub: a hop goes no further.
//  3. Hub 1 answers A. All have dropped TLS, and both hubs splice.
//
// What the header block says of A is for limits and for the dial-back. Who A is, B learns from A.

// ErrNotHere refuses a hop to an endpoint that is not attached to this hub: another one may have it.
var ErrNotHere = answer.Errorf(answer.NotFound, "that endpoint is not attached to this hub")

// Hop is [Relay.Serve] for the leg of another hub, which the caller answers if there is an error, and
// finishes. It is connect for a hop: the limits are those of the agent and of its hub.
func (r *Relay) Hop(ctx context.Context, a *Leg, target, hub identity.ID) error {
	if !r.hopsOf.Acquire(hub, r.c.Limits.Hops) {
		return answer.Errorf(answer.Limit, "hub %s has %d paths through this one, which is the limit", hub, r.c.Limits.Hops)
	}
	defer r.hopsOf.Release(hub)
	a.Hub = hub
	return r.connect(ctx, a, target)
}

// elsewhere finds the second leg of a path at another hub. refused says why there is none here.
func (r *Relay) elsewhere(ctx context.Context, a *Leg, target identity.ID, refused error) (*Leg, error) {
	if a.Hop {
		return nil, ErrNotHere
	}
	ctx, cancel := context.WithTimeout(ctx, r.c.Ticket)
	defer cancel()
	defer context.AfterFunc(r.open, cancel)()
	g, err := r.c.Links.Hop(ctx, target, a.ID, a.User)
	switch {
	case g != nil:
		return &Leg{ID: target, Accept: func(bool) (net.Conn, error) { return g.Conn, nil }, Finish: g.Finish}, nil
	case err == nil:
		return nil, refused
	case answer.CodeOf(err) == answer.NotFound: // it has just left that hub
		return nil, answer.Errorf(answer.Unavailable, "endpoint %s is offline", r.c.Sessions.Name(target))
	}
	why := "that hub does not answer"
	if no := new(answer.Error); errors.As(err, &no) {
		why = no.Message
	}
	return nil, answer.Errorf(answer.Unavailable, "endpoint %s is attached to another hub, and there is no path: %s", r.c.Sessions.Name(target), why)
}
