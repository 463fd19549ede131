package peers

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"ztm/agent/direct"
	"ztm/tunnel"
	meeting "ztm/tunnel/direct"
	"ztm/tunnel/flow"
	"ztm/tunnel/identity"
	"ztm/tunnel/metric"
	"ztm/tunnel/pause"
	"ztm/tunnel/seal"
)

// How flows come to go without the hub. The relay is first, and is there at any time:
//
//	a flow on a relayed session lasts, has moved much, or is to be offloaded
//	  -> wish -> upgrade: a round of package direct, on a fresh relayed session -> the pool prefers what came of it
//	  flows that run stay where they are, or are offloaded to a direct connection, or go on in one: reroute.go
//	a direct session hangs, or its mode is turned off -> new flows are relayed
const (
	lasting      = 2 * time.Second // a flow that is open for so long wants a direct path
	wishBytes    = 256 << 10       // and so does one that has moved so much
	maxRounds    = 3               // in a row, each with fresh ports
	upgradeTime  = time.Minute     // of all of them
	offloadWait  = 6 * time.Second // a flow that moves much waits so long for a direct path
	meetingTrial = 6 * time.Second // and a person who asks for it
)

// directly is how a session goes that does not go through a hub. The zero value is one that does.
type directly struct {
	at    meeting.Candidate
	since time.Time
}

func (d directly) is() bool { return d.at.Kind != "" }

// path is how it goes, as counters name it.
func (d directly) path() string { return cmp.Or(string(d.at.Kind), "relayed") }

// newDirect takes a session with a peer at a place.
func (p *Peers) newDirect(s *seal.Session, at meeting.Candidate) *outSession {
	c := p.doubts(&outSession{Session: s, directly: directly{at, time.Now()}, retired: new(atomic.Bool)})
	p.Work.Go(func() {
		p.untilLeft(s, at.From)
		p.direct.Ended(s.Peer().ID, !c.retired.Load() && p.Life.Err() == nil)
	})
	return c
}

// wish has a direct path made to a peer, unless there is one or it is not time for it.
func (p *Peers) wish(to identity.ID) {
	if p.pool.directTo(to) != nil || !p.direct.Begin(to) {
		return
	}
	if !p.Work.Go(func() { p.upgrade(to) }) {
		p.direct.End(to, "", context.Canceled)
	}
}

// await waits for a round with a peer, if there is one.
func (p *Peers) await(ctx context.Context, to identity.ID, most time.Duration) {
	round := p.direct.Round(to)
	if round == nil {
		return
	}
	pause.OrWake(ctx, most, round)
}

// Meet has a direct path made to an endpoint of this device's user, and waits a moment for it.
func (p *Peers) Meet(ctx context.Context, to identity.ID) {
	p.wish(to)
	p.await(ctx, to, meetingTrial)
}

// upgrade makes a direct path to a peer, in as many rounds as it may take.
func (p *Peers) upgrade(to identity.ID) {
	ctx, cancel := context.WithTimeout(p.Life, upgradeTime)
	defer cancel()
	var kind meeting.Kind
	err := error(direct.NoWay)
	for n := 0; n < maxRounds && direct.CauseOf(err) == direct.NoWay; n++ {
		err = p.round(ctx, to, func(relayed flow.Session, leg *tunnel.Leg) error {
			s, at, err := p.direct.Session(ctx, relayed, leg)
			if err == nil {
				kind, err = at.Kind, p.use(s, at)
			}
			return err
		})
	}
	if err != nil {
		p.Log.Info("no direct session with a peer", "peer", to, "err", err)
	}
	p.direct.End(to, kind, err)
}

// use has flows use a direct session, if the mode still allows that.
func (p *Peers) use(s *seal.Session, at meeting.Candidate) error {
	to := s.Peer().ID
	if !p.Mode().Allows(at.Kind) { // meanwhile
		s.Close()
		return context.Canceled
	}
	p.pool.add(to, p.newDirect(s, at))
	if !p.Mode().Allows(at.Kind) { // changed before it was there to be retired
		p.pool.retireDirect()
	}
	p.Log.Info("a session with a peer is direct", "peer", to, "kind", at.Kind, "at", at.To)
	p.straightenAll()
	return nil
}

// round opens a relayed session, and closes it when use is over. Its ends have ports that nothing
// has been dialled from.
func (p *Peers) round(ctx context.Context, to identity.ID, use func(flow.Session, *tunnel.Leg) error) error {
	path, _, err := p.Hubs.Path(ctx, to, true, "")
	if err != nil {
		return err
	}
	leg, _ := path.(*tunnel.Leg)
	s, err := seal.Client(ctx, path, p.Verifier, p.Certificate(), to)
	if err != nil {
		return err
	}
	err = use(s, leg)
	if !p.Work.Go(func() { s.Close() }) { // may wait a second for the peer
		s.Close()
	}
	return err
}

// dialDirect opens a direct connection for one flow, where there is a direct session with the peer.
func (p *Peers) dialDirect(ctx context.Context, to identity.ID) (*seal.Dedicated, via, error) {
	c := p.pool.directTo(to)
	if c == nil {
		return nil, via{}, errNotDirect
	}
	var d *seal.Dedicated
	err := p.round(ctx, to, func(relayed flow.Session, leg *tunnel.Leg) (err error) {
		d, err = p.direct.Dedicated(ctx, relayed, leg, c.at.To.Addr())
		return err
	})
	return d, via{along: c}, err
}

// met serves what a peer has sealed on a direct path, if the mode still allows that.
func (p *Peers) met(a *seal.Accepted, at meeting.Candidate) {
	if p.Mode().Allows(at.Kind) && p.Work.Go(func() {
		p.admit(*a, nil, "", directly{at, time.Now()})
		if !p.Mode().Allows(at.Kind) { // changed before the session was there to be retired
			p.retireInbound()
		}
	}) {
		return
	}
	if a.Dedicated != nil {
		a.Dedicated.Reset()
	} else {
		a.Session.Close()
	}
}

// acceptedOf reports whether a flow of a peer was accepted here, not long ago.
func (p *Peers) acceptedOf(peer identity.ID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.recent.peers[peer] != nil
}

// opens is a session that a peer opened, as rounds see it.
func (p *Peers) opens(in *inbound) *direct.Session {
	s := &direct.Session{
		End: direct.End{Leg: in.leg, Path: in.at}, Peer: in.peer, Export: in.export, Done: in.done,
	}
	if direct.WithDatagrams {
		s.Beside = func(path direct.Path) { p.besideInbound(in, path) }
	}
	for _, other := range p.inbounds() {
		if other.peer.ID == in.peer.ID && other.is() {
			s.At = other.at.To.Addr()
		}
	}
	return s
}

// Route is how flows with a peer go.
type Route struct {
	Direct  string // the kind of path; "": through a hub
	Address string // of the peer, host:port
	Since   time.Time
	Why     string // it is not direct; "": nothing was tried

	Datagrams *Route // how datagrams go that have a path of their own, or why they have none; nil: as all else
}

func (d directly) route() Route {
	return Route{Direct: string(d.at.Kind), Address: d.at.To.String(), Since: d.since}
}

// Route returns how flows with a peer go, those that were opened here before those that it opened.
func (p *Peers) Route(to identity.ID) Route {
	r := p.routeOfFlows(to)
	r.Datagrams = p.routeBeside(to)
	return r
}

func (p *Peers) routeOfFlows(to identity.ID) Route {
	if c := p.pool.directTo(to); c != nil {
		return c.route()
	}
	for _, in := range p.inbounds() {
		if in.peer.ID == to && in.is() && p.Mode().Allows(in.at.Kind) { // else it ends, and takes no new flows
			return in.route()
		}
	}
	return Route{Why: string(p.direct.Why(to))}
}

// Metrics adds counters.
func (p *Peers) Metrics(w *metric.Writer) {
	paths := map[string]int64{"relayed": 0}
	p.pool.each(func(c *outSession) {
		select {
		case <-c.Done():
		default:
			paths[c.path()]++
		}
	})
	for _, in := range p.inbounds() {
		paths[in.path()]++
	}
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		w.Gauge("ztm_mesh_sessions", "Sealed sessions that are open, by path.", paths[path], "path", path)
	}
	p.direct.Metrics(w)
	p.direct.Datagrams.Metrics(w)
}

// ModeChanged has what is direct end with its flows, at both ends, and the next flow begin anew.
func (p *Peers) ModeChanged() {
	p.pool.retireDirect()
	p.retireInbound()
	p.endBeside()
	p.direct.Forget()
	p.direct.Datagrams.Forget()
	p.follow()
}

// retireInbound has peers open no more flows on direct sessions.
func (p *Peers) retireInbound() {
	p.server.Retire(func(tag any) bool { return tag.(*inbound).is() })
}

// directTo returns a direct session with a peer that takes flows; nil if there is none.
func (p *pool) directTo(to identity.ID) *outSession {
	p.mu.Lock()
	defer p.mu.Unlock()
	ps := p.peers[to]
	if ps == nil {
		return nil
	}
	if best, _ := ps.pick(p.doubtful); best != nil && best.is() {
		return best
	}
	return nil
}

// add has new flows use a session.
func (p *pool) add(to identity.ID, c *outSession) {
	p.mu.Lock()
	if p.life.Err() == nil {
		ps := p.ofLocked(to)
		ps.sessions = append(ps.sessions, c)
	} else {
		go c.Close() // may wait a second for the peer
	}
	p.mu.Unlock()
}
