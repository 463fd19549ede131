package peers

import (
	"cmp"
	"context"
	"sync/atomic"
	"time"

	"ztm/agent/direct"
	"ztm/tunnel/datagram"
	"ztm/tunnel/flow"
	"ztm/tunnel/identity"
)

// How datagrams come to go by UDP. A path belongs to one session, be that relayed or direct:
//
//	a flow of datagrams is opened -> goBeside: a round of package direct -> the path; flows that run use it as well
//	the path ends, or does not take a datagram -> it is in the session, as before, and the flow asks: goBeside again
//	a minute without a datagram -> the path ends, until the next one

// beside is the path that a session has for datagrams. The zero value has none.
type beside struct{ path atomic.Pointer[besidePath] }

type besidePath struct {
	path  direct.Path
	since time.Time
}

// set has a session use a path.
func (b *beside) set(path direct.Path) { b.path.Store(&besidePath{path, time.Now()}) }

// stands returns the path if it is not over.
func (b *beside) stands() *besidePath {
	path := b.path.Load()
	if path == nil {
		return nil
	}
	select {
	case <-path.path.Done():
		return nil
	default:
		return path
	}
}

// way is for flows; nil without a path.
func (b *beside) way() flow.Beside {
	if !direct.WithDatagrams {
		return nil
	}
	if path := b.stands(); path != nil {
		return path.path
	}
	return nil
}

// lead has a flow use the path.
func (b *beside) lead(c *flow.Conn) {
	if way := b.way(); way != nil {
		c.Beside(way)
	}
}

// end ends the path.
func (b *beside) end() {
	if path := b.path.Load(); path != nil {
		path.path.Leave()
	}
}

// route is how its datagrams go; nil: as all else in the session.
func (b *beside) route() *Route {
	if path := b.stands(); path != nil {
		r := directly{path.path.Place(), path.since}.route()
		return &r
	}
	return nil
}

// goBeside has a flow of datagrams use the path of its session, and has one made where there is none and
// it is time for a round.
func (p *Peers) goBeside(f *outFlow) {
	s := f.session
	s.beside.lead(f.Conn)
	if s.beside.stands() != nil || !p.direct.Datagrams.Begin(f.peer.ID) {
		return
	}
	if !p.Work.Go(func() { p.makeBeside(s) }) {
		p.direct.Datagrams.End(f.peer.ID, "", context.Canceled)
	}
}

// makeBeside makes a path for the datagrams of a session, and keeps it.
func (p *Peers) makeBeside(s *outSession) {
	peer := s.Peer().ID
	path, err := p.direct.Beside(p.Life, s, direct.End{Leg: s.leg, Path: s.at})
	if err != nil {
		p.Log.Info("datagrams to a peer are in the session", "peer", peer, "err", err)
		p.direct.Datagrams.End(peer, "", err)
		return
	}
	s.beside.set(path)
	if !p.Mode().Allows(path.Place().Kind) { // changed before it was there to be ended
		path.Leave()
	}
	for _, f := range p.opened() {
		if f.session == s {
			f.Beside(path)
		}
	}
	p.Log.Info("datagrams to a peer are direct", "peer", peer, "kind", path.Place().Kind, "at", path.Place().To)
	p.direct.Datagrams.End(peer, path.Place().Kind, nil)
	why := p.direct.Keep(path, s.Done())
	p.Log.Info("datagrams to a peer are in the session again", "peer", peer, "why", why)
	p.direct.Datagrams.Ended(peer, why == datagram.Silent)
}

// besideInbound has the flows of a session that a peer opened use a path.
func (p *Peers) besideInbound(in *inbound, path direct.Path) {
	in.beside.set(path)
	p.mu.Lock()
	var flows []*flow.Conn
	for f := range p.flows {
		if f.in == in && f.conn != nil {
			flows = append(flows, f.conn)
		}
	}
	p.mu.Unlock()
	for _, c := range flows {
		c.Beside(path)
	}
}

// endBeside ends all paths for datagrams: their flows are in their sessions.
func (p *Peers) endBeside() {
	if !direct.WithDatagrams {
		return
	}
	p.pool.each(func(c *outSession) { c.beside.end() })
	for _, in := range p.inbounds() {
		in.beside.end()
	}
}

// routeBeside is how datagrams with a peer go; nil: nothing is known but how its sessions do.
func (p *Peers) routeBeside(to identity.ID) (r *Route) {
	if !direct.WithDatagrams {
		return nil
	}
	p.pool.each(func(c *outSession) {
		if c.Peer().ID == to {
			r = cmp.Or(c.beside.route(), r)
		}
	})
	for _, in := range p.inbounds() {
		if r == nil && in.peer.ID == to {
			r = in.beside.route()
		}
	}
	if why := p.direct.Datagrams.Why(to); r == nil && why != "" && why != direct.TurnedOff {
		r = &Route{Why: string(why)}
	}
	return r
}
