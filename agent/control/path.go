package control

import (
	"context"
	"errors"
	"io"
	"net"
	"time"

	"ztm/tunnel"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	"ztm/tunnel/race"
)

// hedgeDelay is how long a hub may take for a path before the next one is asked as well: the peer
// may have lost its way to the first.
const hedgeDelay = time.Second

// Path opens a path to a peer, and says through which hub: a connection of its own where dedicated
// says so, and otherwise whatever can be had. A hub that the peer is with as well is asked first;
// avoid is a hub that is asked last.
func (c *Control) Path(ctx context.Context, to identity.ID, dedicated bool, avoid identity.ID) (net.Conn, identity.ID, error) {
	links, err := c.await(ctx)
	if err != nil {
		return nil, "", err
	}
	c.sort(links, c.HubsOf(to), avoid)
	path, i, errs := race.First(ctx, len(links), hedgeDelay, func(ctx context.Context, i int) (io.Closer, error) {
		watched, stop := c.watch(ctx, links[i])
		defer stop()
		if dedicated {
			return c.dedicated(watched, links[i], to, "")
		}
		return c.relay(watched, links[i], to, "")
	})
	if i < 0 {
		return nil, "", firstAnswer(errs)
	}
	return path.(net.Conn), links[i].hub.ID, nil
}

// firstAnswer is what a hub said, if one said anything.
func firstAnswer(errs []error) error {
	for _, err := range errs {
		if errors.As(err, new(*answer.Error)) {
			return err
		}
	}
	return errs[0]
}

// Fallbacks returns how many paths were streams of a session, for want of a connection of their own.
func (c *Control) Fallbacks() int64 { return c.fallbacks.Load() }

// Standby reports whether a relay connection stands by for the next path through a hub.
func (c *Control) Standby(hub identity.ID) bool {
	l := c.with(hub)
	return l != nil && l.standby.ready(l.session)
}

// DropStandby gives up the relay connections that stand by: they were opened with a certificate that
// was replaced.
func (c *Control) DropStandby() {
	c.mu.Lock()
	ready := c.readyLocked()
	c.mu.Unlock()
	for _, l := range ready {
		l.standby.drop()
	}
}

// relay opens a relayed path: a connection of its own, or a stream of the control session where
// that cannot be had.
func (c *Control) relay(ctx context.Context, l *link, peer identity.ID, ticket string) (net.Conn, error) {
	path, err := c.dedicated(ctx, l, peer, ticket)
	if settled(ctx, err) {
		return path, err
	}
	c.fallbacks.Add(1)
	c.Log.Debug("no connection for a relayed path, using a stream of the control session", "err", err)
	return l.session.Relay(ctx, peer, ticket)
}

// dedicated opens a relayed path that is a connection of its own.
func (c *Control) dedicated(ctx context.Context, l *link, peer identity.ID, ticket string) (net.Conn, error) {
	open := func(ctx context.Context) (*tunnel.Relay, error) {
		config := c.Verifier.ClientConfig(c.Certificate(), identity.RoleHub, l.hub.ID, tunnel.RelayProto)
		return l.session.DialRelay(ctx, c.Dialer, config)
	}
	path, err := c.connectRelay(ctx, l, open, peer, ticket)
	if err == nil {
		c.Work.Go(func() {
			if l.standby.prepare(l.session, func() (relay, error) { return open(l.life) }) {
				c.Log.Debug("the standby connection is ready")
			}
		})
	}
	return path, err
}

// connectRelay makes a path of the relay connection that stands by, or of a new one where there is
// none or it has gone stale.
func (c *Control) connectRelay(
	ctx context.Context, l *link, open func(context.Context) (*tunnel.Relay, error), peer identity.ID, ticket string,
) (net.Conn, error) {
	if r := l.standby.take(l.session); r != nil {
		if path, err := r.Connect(ctx, peer, ticket); settled(ctx, err) {
			return path, err
		}
	}
	r, err := open(ctx)
	if err != nil {
		return nil, err
	}
	return r.Connect(ctx, peer, ticket)
}

// settled reports whether another way to the hub would change nothing.
func settled(ctx context.Context, err error) bool {
	var refusal *answer.Error
	return err == nil || errors.As(err, &refusal) || ctx.Err() != nil
}
