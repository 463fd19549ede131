package peers

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"ztm/tunnel"
	"ztm/tunnel/answer"
	"ztm/tunnel/flow"
	"ztm/tunnel/identity"
	"ztm/tunnel/seal"
	"ztm/tunnel/suspicion"
)

// A session with a peer goes through a hub, and either may hang: the hub, or what leads from it to
// the peer. Where there is another hub nobody waits for that:
//
//	an answer is overdue -> PING end to end, and to the hub -> no PONG: suspect
//	  a flow that waits opens again elsewhere, with the same flow ID; new flows avoid the session, and the hub
//	  silent for longer: the session ends, and so does what was offloaded through the hub (Lost)
//
// Where there is none, only the peer may be away: the hub is asked for another path to it, and where
// it does not answer there either, nobody waits any longer. The session stays, with what it carries.

// Hubs is what Peers ask of the sessions with hubs.
type Hubs interface {
	// Path opens a path to a peer, and says through which hub: a connection of its own where
	// dedicated says so, and otherwise whatever can be had. The hub avoid is asked last.
	Path(ctx context.Context, to identity.ID, dedicated bool, avoid identity.ID) (net.Conn, identity.ID, error)

	// Another reports whether there is another hub than this one to go through.
	Another(than identity.ID) bool

	// Suspect reports whether a hub is suspected to hang while another does not.
	Suspect(hub identity.ID) bool

	// Watch is for what waits for an answer through a hub: the context ends with [suspicion.Err] when
	// the hub is suspect. stop is called when the wait is over.
	Watch(ctx context.Context, hub identity.ID) (watched context.Context, stop func())

	// Left says that an address is no longer this device's: sessions with hubs that begin there end.
	Left(from netip.Addr)
}

// outSession is a session that this agent opened, with what it goes through.
type outSession struct {
	flow.Session
	directly
	hub     identity.ID // "": none, it is direct or with ourselves
	leg     *tunnel.Leg // through the hub; nil: something else carries it
	beside  beside
	doubt   *suspicion.Suspicion
	retired *atomic.Bool // a direct session gets no new flows, or has none; nil: it is not direct

	seeking sync.Mutex
	search  *search // nil: none; guarded by seeking

	alongside atomic.Int32 // flows whose connections of their own go where this direct session does
}

// doubts has it found out where a session hangs.
func (p *Peers) doubts(c *outSession) *outSession {
	s := c.Session
	c.doubt = suspicion.New(suspicion.Config{
		Ping: s.Ping, Heard: s.Heard, RTT: s.RTT, Go: p.Work.Go,
		Lost: func() bool {
			if !c.is() && !p.Hubs.Another(c.hub) {
				return false
			}
			p.Log.Info("a session with a peer ends: nothing comes", "peer", s.Peer().ID, "hub", c.hub)
			s.Close()
			return true
		},
	})
	return c
}

// doubtful reports whether new flows are to avoid it.
func (c *outSession) doubtful(hubs Hubs) bool {
	if c.is() {
		return c.doubt.Suspect()
	}
	return c.hub != "" && (c.doubt.Suspect() && hubs.Another(c.hub) || hubs.Suspect(c.hub))
}

// watch is for a request that waits for an answer on a session. The context ends with
// [suspicion.Err] when the answer is no longer expected, and may be had elsewhere.
func (p *Peers) watch(ctx context.Context, c *outSession) (watched context.Context, stop func()) {
	if c.is() {
		return c.doubt.Watch(ctx) // there is the relay
	}
	if c.hub == "" {
		return ctx, func() {}
	}
	if !p.Hubs.Another(c.hub) {
		return p.watchPeer(ctx, c)
	}
	byHub, stopHub := p.Hubs.Watch(ctx, c.hub) // the hub is nearer, and so found out sooner
	watched, stopEnd := c.doubt.Watch(byHub)
	return watched, func() {
		stopEnd()
		stopHub()
	}
}

// watchPeer is watch where there is one hub: the context ends with the hub's word that the peer does
// not answer.
func (p *Peers) watchPeer(ctx context.Context, c *outSession) (watched context.Context, stop func()) {
	doubted, trust := c.doubt.Watch(ctx)
	watched, end := context.WithCancelCause(ctx)
	unhook := context.AfterFunc(doubted, func() { // ends with watched
		if !gaveUp(ctx, doubted) {
			return
		}
		search := p.seek(c)
		select {
		case <-search.done:
			if answer.CodeOf(search.err) == answer.Timeout {
				end(search.err)
			}
		case <-watched.Done():
		}
	})
	return watched, func() {
		unhook()
		trust()
		end(nil)
	}
}

// search is a question to the hub for a path to a peer whose session says nothing.
type search struct {
	done chan struct{} // closed when err is set
	err  error
}

// seek asks the hub for a path to the peer of a session, once for all that wait at the same time. The
// path itself is of no use: an answer shows that the peer is slow.
func (p *Peers) seek(c *outSession) *search {
	c.seeking.Lock()
	defer c.seeking.Unlock()
	if c.search != nil {
		return c.search
	}
	s := &search{done: make(chan struct{})}
	ask := func() {
		path, _, err := p.Hubs.Path(p.Life, c.Peer().ID, true, "")
		if err == nil {
			path.Close()
		}
		c.seeking.Lock()
		c.search = nil
		c.seeking.Unlock()
		s.err = err
		close(s.done)
	}
	if p.Work.Go(ask) {
		c.search = s
	}
	return s
}

// asleep is the hub's word that the peer of a request that is watched does not answer; nil if there is none.
func asleep(ctx, watched context.Context) error {
	var no *answer.Error
	if ctx.Err() == nil && errors.As(context.Cause(watched), &no) {
		return no
	}
	return nil
}

// gaveUp reports whether a request was given up because its session hangs.
func gaveUp(ctx, watched context.Context) bool {
	return ctx.Err() == nil && errors.Is(context.Cause(watched), suspicion.Err)
}

// dial opens a sealed session with a peer, not through the hub avoid if there is another.
func (p *Peers) dial(ctx context.Context, to, avoid identity.ID) (*outSession, error) {
	if to == p.Self {
		return p.dialSelf(ctx)
	}
	for attempt := 0; ; attempt++ {
		path, hub, err := p.Hubs.Path(ctx, to, false, avoid)
		if err != nil {
			return nil, answer.Lost(err)
		}
		watched, stop := p.Hubs.Watch(ctx, hub)
		s, err := seal.Client(watched, path, p.Verifier, p.Certificate(), to)
		again := err != nil && attempt == 0 && gaveUp(ctx, watched)
		stop()
		switch {
		case err == nil:
			leg, _ := path.(*tunnel.Leg)
			if a, ok := path.LocalAddr().(*net.TCPAddr); ok {
				p.Work.Go(func() { p.untilLeft(s, a.AddrPort().Addr().Unmap()) })
			}
			return p.doubts(&outSession{Session: s, hub: hub, leg: leg}), nil
		case !again:
			return nil, answer.Lost(err)
		}
		avoid = hub
	}
}

// untilLeft returns when a session is over. It ends with those with hubs when this device is in another network
// than where it began: nothing comes there, and nobody says so.
func (p *Peers) untilLeft(s *seal.Session, from netip.Addr) {
	p.direct.Watch(from, s.Done(), func() {
		p.Log.Info("a session ends: this device is in another network", "peer", s.Peer().ID)
		p.Hubs.Left(from)
		s.Close()
	})
}

// Lost ends what goes through a hub that hangs and of which nothing comes: sessions at once if they
// are as silent, and what was offloaded once it has been silent for as long.
func (p *Peers) Lost(hub identity.ID) {
	p.pool.lost(hub, time.Now().Add(-suspicion.MaxSilence))
	moved := p.movedThrough(hub)
	p.Work.Go(func() {
		for range offloadChecks {
			timer := time.NewTimer(suspicion.MaxSilence)
			select {
			case <-timer.C:
			case <-p.Life.Done():
				timer.Stop()
				return
			}
			moved = slices.DeleteFunc(moved, (*offloaded).settled)
		}
	})
}

// offloadChecks is how often an offloaded flow is looked at that sends and receives nothing.
const offloadChecks = 4

// offloaded is a flow with a connection of its own through a hub, and what it had moved.
type offloaded struct {
	*flow.Conn
	sent, received int64
	reset          func() error
}

// settled reports whether it is known if the connection works, and resets the flow if it does not.
// What was received came over it. What was sent may lie in a buffer of this machine: that is looked
// at again.
func (o *offloaded) settled() bool {
	sent, received := o.Sent(), o.Received()
	if sent == o.sent && received == o.received {
		o.reset()
		return true
	}
	o.sent = sent
	return received != o.received
}

// movedThrough lists the flows that were offloaded through a hub.
func (p *Peers) movedThrough(hub identity.ID) (out []*offloaded) {
	p.mu.Lock()
	defer p.mu.Unlock()
	add := func(c *flow.Conn, reset func() error) {
		out = append(out, &offloaded{c, c.Sent(), c.Received(), reset})
	}
	for f := range p.outFlows {
		if f.hub == hub {
			add(f.Conn, f.Reset)
		}
	}
	for f := range p.flows {
		if f.hub == hub {
			add(f.conn, f.conn.Reset)
		}
	}
	return out
}

// lost closes the sessions through a hub from which nothing came since a moment.
func (p *pool) lost(hub identity.ID, since time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, ps := range p.peers {
		for _, s := range slices.Concat(ps.sessions, ps.old) {
			if s.hub == hub && s.Heard().Before(since) {
				go s.Close() // may wait a second for the peer; pick drops it next time
			}
		}
	}
}
