package link

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"ztm/tunnel"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
)

// Metrics count what goes on between hubs.
type Metrics struct {
	Lost    atomic.Int64 // hubs that were silent
	Forged  atomic.Int64 // attachments that no endpoint has signed
	Hops    atomic.Int64 // paths that another hub carries on
	NotHere atomic.Int64 // hops to a hub that has the endpoint no more
	Failed  atomic.Int64 // hops that failed in another way
	Limited atomic.Int64 // hops for which there was no room
}

// Metrics returns the counters.
func (l *Links) Metrics() *Metrics { return &l.metrics }

// Leg is the leg of a path that another hub carries on.
type Leg struct {
	net.Conn
	Hub     identity.ID
	release func()
}

// Finish closes the leg.
func (g *Leg) Finish() {
	g.Conn.Close()
	g.release()
}

// cutLocked cuts what goes through another hub.
func (l *Links) cutLocked(h *hub) {
	for g := range h.legs {
		if tcp, ok := g.Conn.(*net.TCPConn); ok {
			tcp.SetLinger(0)
		}
		g.Conn.Close()
	}
	if h.standby != nil {
		h.standby.Close()
		h.standby = nil
	}
}

// Hop asks the hubs that have an endpoint for a path to it, one after the other: the next one at
// once if a hub has it no more, and also if it does not answer soon. The first path counts. Where no
// hub says that it has the endpoint, there is neither a leg nor an error.
func (l *Links) Hop(ctx context.Context, target, origin identity.ID, user string) (*Leg, error) {
	where := l.Where(target)
	if len(where) == 0 {
		return nil, nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		leg *Leg
		err error
	}
	results := make(chan result, len(where))
	asked, open := 0, 0
	ask := func() {
		id := where[asked]
		asked, open = asked+1, open+1
		go func() { // awaited below, and by late
			leg, err := l.ask(ctx, id, target, origin, user)
			results <- result{leg, err}
		}()
	}
	ask()
	hedge := time.NewTicker(hedgeTime)
	defer hedge.Stop()
	var first error
	for open > 0 {
		select {
		case r := <-results:
			open--
			if r.err == nil {
				cancel()
				for ; open > 0; open-- {
					if late := <-results; late.leg != nil {
						late.leg.Finish()
					}
				}
				l.metrics.Hops.Add(1)
				return r.leg, nil
			}
			if first == nil || !errors.As(first, new(*answer.Error)) {
				first = r.err
			}
		case <-hedge.C:
		}
		if asked < len(where) && ctx.Err() == nil {
			ask()
		}
	}
	return nil, first
}

// ask asks one hub for a path.
func (l *Links) ask(ctx context.Context, id, target, origin identity.ID, user string) (*Leg, error) {
	l.mu.Lock()
	h := l.hubs[id]
	l.mu.Unlock()
	if h == nil {
		return nil, errGone
	}
	if !h.hops.Acquire(struct{}{}, l.c.Hops) {
		l.metrics.Limited.Add(1)
		return nil, answer.Errorf(answer.Limit, "%d paths go through hub %s, which is the limit", l.c.Hops, id)
	}
	leg := &Leg{Hub: id, release: sync.OnceFunc(func() { h.hops.Release(struct{}{}) })}
	conn, err := l.through(ctx, h, target, origin, user)
	if err != nil {
		leg.release()
		l.count(err)
		return nil, err
	}
	l.register(h, leg, conn)
	return leg, nil
}

var errGone = answer.Errorf(answer.Unavailable, "the hub of that endpoint went away")

func (l *Links) count(err error) {
	if answer.CodeOf(err) == answer.NotFound {
		l.metrics.NotHere.Add(1)
	} else {
		l.metrics.Failed.Add(1)
	}
}

// register makes a leg end with its hub.
func (l *Links) register(h *hub, leg *Leg, conn net.Conn) {
	free := leg.release
	leg.Conn = conn
	leg.release = sync.OnceFunc(func() {
		free()
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(h.legs, leg)
	})
	l.mu.Lock()
	h.legs[leg] = struct{}{}
	l.mu.Unlock()
}

// through opens a path through a hub: on the connection that is kept ready, or else on a new one. A
// standby one that fails without an answer may have died while it waited.
func (l *Links) through(ctx context.Context, h *hub, target, origin identity.ID, user string) (net.Conn, error) {
	if standby := l.takeStandby(h); standby != nil {
		conn, err := standby.Hop(ctx, target, origin, user)
		if err == nil || errors.As(err, new(*answer.Error)) || ctx.Err() != nil {
			return conn, err
		}
	}
	relay, err := l.dialHop(ctx, h)
	if err != nil {
		return nil, err
	}
	return relay.Hop(ctx, target, origin, user)
}

// dialHop opens a connection for a hop to a hub that this one is linked with.
func (l *Links) dialHop(ctx context.Context, h *hub) (*tunnel.Relay, error) {
	l.mu.Lock()
	s, names := h.session, h.record.Names
	l.mu.Unlock()
	if s == nil || len(names) == 0 {
		return nil, errGone
	}
	p := place{name: names[0], address: s.Address()}
	return tunnel.DialRelay(ctx, &tunnel.Dialer{}, p.address, l.config(p, h.id, tunnel.HopProto))
}

// prepare opens the connection that is kept ready for the next path through a hub.
func (l *Links) prepare(ctx context.Context, h *hub) error {
	relay, err := l.dialHop(ctx, h)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if h.standby != nil {
		h.standby.Close()
	}
	h.standby, h.standbyAt = relay, time.Now()
	return nil
}

// takeStandby takes the connection that is kept ready for a hub; nil if there is none.
func (l *Links) takeStandby(h *hub) *tunnel.Relay {
	l.mu.Lock()
	defer l.mu.Unlock()
	standby := h.standby
	h.standby, h.wantsStandby = nil, true
	h.rouse()
	if standby != nil && time.Since(h.standbyAt) > standbyTime {
		standby.Close()
		standby = nil
	}
	return standby
}
