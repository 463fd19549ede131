package control

import (
	"context"
	"errors"
	"net"

	"ztm/tunnel"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
)

// Path opens a path to a peer: a connection of its own where dedicated says so, and otherwise
// whatever can be had.
func (c *Control) Path(ctx context.Context, to identity.ID, dedicated bool) (net.Conn, error) {
	s, hub, err := c.Session(ctx)
	if err != nil {
		return nil, err
	}
	if dedicated {
		return c.dedicated(ctx, s, hub, to, "")
	}
	return c.relay(ctx, s, hub, to, "")
}

// Fallbacks returns how many paths were streams of the session, for want of a connection of their
// own.
func (c *Control) Fallbacks() int64 { return c.fallbacks.Load() }

// Standby reports whether a relay connection stands by for the next path, and DropStandby gives it
// up: it was opened with a certificate that was replaced.
func (c *Control) Standby(s *tunnel.Session) bool { return c.standby.ready(s) }

// DropStandby gives up the relay connection that stands by.
func (c *Control) DropStandby() { c.standby.drop() }

// relay opens a relayed path: a connection of its own, or a stream of the control session where
// that cannot be had.
func (c *Control) relay(ctx context.Context, s *tunnel.Session, hub identity.Subject, peer identity.ID, ticket string) (net.Conn, error) {
	path, err := c.dedicated(ctx, s, hub, peer, ticket)
	if settled(ctx, err) {
		return path, err
	}
	c.fallbacks.Add(1)
	c.Log.Debug("no connection for a relayed path, using a stream of the control session", "err", err)
	return s.Relay(ctx, peer, ticket)
}

// dedicated opens a relayed path that is a connection of its own.
func (c *Control) dedicated(ctx context.Context, s *tunnel.Session, hub identity.Subject, peer identity.ID, ticket string) (net.Conn, error) {
	open := func(ctx context.Context) (*tunnel.Relay, error) {
		config := c.Verifier.ClientConfig(c.Certificate(), identity.RoleHub, hub.ID, tunnel.RelayProto)
		return tunnel.DialRelay(ctx, c.Dialer, s.Address(), config)
	}
	path, err := c.connectRelay(ctx, s, open, peer, ticket)
	if err == nil {
		c.Work.Go(func() {
			if c.standby.prepare(s, func() (relay, error) { return open(c.Life) }) {
				c.Log.Debug("the standby connection is ready")
			}
		})
	}
	return path, err
}

// connectRelay makes a path of the relay connection that stands by, or of a new one where there is
// none or it has gone stale.
func (c *Control) connectRelay(
	ctx context.Context, s *tunnel.Session, open func(context.Context) (*tunnel.Relay, error), peer identity.ID, ticket string,
) (net.Conn, error) {
	if r := c.standby.take(s); r != nil {
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
