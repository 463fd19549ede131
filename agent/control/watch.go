package control

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"time"

	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
)

// A hub that hangs is found out by whoever waits for it: see package suspicion. With one hub nobody
// looks, for there is nowhere else to go.

// Why a session with a hub was ended.
var (
	errSilent = errors.New("the hub does not answer")
	errLeft   = errors.New("this device is in another network")
)

// readyLocked lists the sessions that stand, the oldest first.
func (c *Control) readyLocked() (out []*link) {
	for _, l := range c.links {
		if l.ready {
			out = append(out, l)
		}
	}
	return out
}

// Another reports whether there is a session with another hub than this one, which is not suspect.
func (c *Control) Another(than identity.ID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.ContainsFunc(c.readyLocked(), func(l *link) bool { return l.hub.ID != than && !l.suspicion.Suspect() })
}

// Suspect reports whether a hub is suspected to hang while another does not.
func (c *Control) Suspect(hub identity.ID) bool {
	l := c.with(hub)
	return l != nil && l.suspicion.Suspect() && c.Another(hub)
}

// with returns the session with a hub; nil if there is none.
func (c *Control) with(hub identity.ID) *link {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, l := range c.readyLocked() {
		if l.hub.ID == hub {
			return l
		}
	}
	return nil
}

// Watch is for what waits for a hub: the context ends with [suspicion.Err] when the hub is suspect
// and there is another.
func (c *Control) Watch(ctx context.Context, hub identity.ID) (watched context.Context, stop func()) {
	if l := c.with(hub); l != nil {
		return c.watch(ctx, l)
	}
	return ctx, func() {}
}

// watch is for what waits for a hub: the context ends when the hub is suspect and there is another.
func (c *Control) watch(ctx context.Context, l *link) (context.Context, func()) {
	if !c.Another(l.hub.ID) {
		return ctx, func() {}
	}
	return l.suspicion.Watch(ctx)
}

// silent ends the session with a hub that was silent for long, unless there is no other: then the
// fault may be on this side.
func (l *link) silent() (ended bool) {
	if !l.c.Another(l.hub.ID) {
		return false
	}
	l.c.Log.Warn("a hub does not answer: what goes through it ends", "hub", l.session.Address())
	l.cut(errSilent)
	return true
}

// cut ends the session with a hub, and what goes through it.
func (l *link) cut(why error) {
	l.end(why)
	l.session.Close()
	l.c.Lost(l.hub.ID)
}

// Left ends the sessions that begin at an address that is no longer this device's.
func (c *Control) Left(from netip.Addr) {
	c.mu.Lock()
	ready := c.readyLocked()
	c.mu.Unlock()
	for _, l := range ready {
		if a, ok := l.session.LocalAddr().(*net.TCPAddr); ok && a.AddrPort().Addr().Unmap() == from {
			l.cut(errLeft)
		}
	}
}

// await waits for a session, a little while: after a start or a lost hub it is about to come. It
// returns all that stand, the best one first.
func (c *Control) await(ctx context.Context) ([]*link, error) {
	c.mu.Lock()
	timer := time.NewTimer(sessionWait(c.lost, time.Now()))
	c.mu.Unlock()
	defer timer.Stop()
	for {
		c.mu.Lock()
		ready, changed, err := c.readyLocked(), c.statusChanged, c.statusErr
		c.mu.Unlock()
		if len(ready) > 0 {
			c.sort(ready, nil, "")
			return ready, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-timer.C:
			return nil, answer.Errorf(answer.Unavailable, "mesh %s is not connected: %v", c.Mesh, orUnknown(err))
		case <-c.Life.Done():
			return nil, answer.Errorf(answer.Unavailable, "mesh %s was left", c.Mesh)
		}
	}
}

// sort orders sessions by how well they serve: not with a hub that is suspect, or that is to be
// avoided, or that is about to end; then one that the peer is with as well, and then the nearest.
func (c *Control) sort(links []*link, peers []identity.ID, avoid identity.ID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, l := range links {
		l.rank = 0
		for _, bad := range []bool{l.suspicion.Suspect(), l.hub.ID == avoid, !l.leave.IsZero(), !slices.Contains(peers, l.hub.ID)} {
			l.rank *= 2
			if bad {
				l.rank++
			}
		}
	}
	slices.SortFunc(links, func(a, b *link) int {
		if a.rank != b.rank {
			return a.rank - b.rank
		}
		if rttA, rttB := a.rtt(), b.rtt(); !nearly(rttA, rttB) || !nearly(rttB, rttA) {
			return cmp.Compare(rttA, rttB)
		}
		return a.began.Compare(b.began)
	})
}

// last orders what is true after what is not.
func last(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// elsewhere reports whether another hub may do what one did not.
func elsewhere(ctx context.Context, err error) bool {
	if ctx.Err() != nil {
		return false
	}
	var no *answer.Error
	if !errors.As(err, &no) {
		return true
	}
	return no.Code == answer.Unavailable || no.Code == answer.Timeout || no.Code == answer.Broken
}
