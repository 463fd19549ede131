package peers

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"ztm/agent/direct"
	"ztm/agent/limits"
	"ztm/apps"
	"ztm/tunnel/answer"
	"ztm/tunnel/flow"
	"ztm/tunnel/identity"
)

// The way of a flow that this agent opens:
//
//  1. pool.get      a warm session with the peer, or a new one
//  2. Session.Open  one request, and what the client has sent by then; the exit's app accepts or refuses
//  3. attempt       the same again where the session had died, and beside it where it hangs
//  4. track         counted until it is closed; gets a connection of its own when it moves much (offload.go)

// Opening is a flow that is to be opened.
type Opening struct {
	To        identity.ID
	Path      string // the app, and what is asked of it
	Query     url.Values
	Datagrams bool
	Client    *apps.Early // whose first bytes go along; nil: nobody's
}

// opening is what all attempts to open a flow have in common.
type opening struct {
	Opening
	id   string       // the flow ID
	sent atomic.Int64 // bytes of the client that attempts without an answer have sent
}

// openTimeout bounds the opening of a flow, the session and the exit's own dialling, where the
// caller does not.
const openTimeout = 30 * time.Second

// Open opens a flow, as [apps.Mesh] says.
func (p *Peers) Open(ctx context.Context, what Opening) (net.Conn, error) {
	if _, limited := ctx.Deadline(); !limited {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, openTimeout, errTimeout)
		defer cancel()
	}
	o := &opening{Opening: what, id: rand.Text()}
	a := p.attempt(ctx, o, maxAgain)
	if a.err != nil {
		return nil, o.failed(a.err)
	}
	return p.track(a.session, a.conn, o.id), nil
}

// maxAgain is how often a flow that had no answer is opened again: once where a session had died,
// and once more where a hub hangs meanwhile.
const maxAgain = 2

// attempted is how an attempt to open a flow has ended.
type attempted struct {
	session *outSession
	conn    *flow.Conn
	err     error
}

// settled reports whether the exit has said what becomes of the flow. A conflict says that another
// attempt came first, which is the one that is answered.
func (a attempted) settled() bool {
	var no *flow.Refused
	return a.err == nil || errors.As(a.err, &no) && no.Reason.Code != answer.Conflict
}

// attempt opens the flow on a session. If that had died unnoticed, the flow is opened once more on
// another. All attempts have the same ID, so a peer does nothing twice.
func (p *Peers) attempt(ctx context.Context, o *opening, again int) attempted {
	session, err := p.pool.get(ctx, o.To)
	if err != nil {
		return attempted{err: err}
	}
	var a attempted
	watched, stop := p.watch(ctx, session)
	defer stop()
	if watched != ctx && again > 0 {
		var other *attempted
		if a, other = p.attemptTwice(ctx, watched, o, session, again); other != nil {
			return *other
		}
	} else {
		a = o.send(ctx, session)
	}
	switch {
	case a.err == nil || errors.As(a.err, new(*flow.Refused)):
		return a
	case ctx.Err() != nil:
		return attempted{err: context.Cause(ctx)}
	case again == 0 || session.Err() == nil:
		return a
	}
	session.Close()
	return p.attempt(ctx, o, again-1)
}

// attemptTwice opens the flow on a session and, when that turns out to hang, beside it on another:
// the first may be just late. other is the second attempt, if there was one and it is what counts.
func (p *Peers) attemptTwice(ctx, watched context.Context, o *opening, session *outSession, again int) (first attempted, other *attempted) {
	here, leaveHere := context.WithCancel(ctx)
	defer leaveHere()
	there, leaveThere := context.WithCancel(ctx)
	defer leaveThere()
	tried := make(chan struct{})
	unhook := context.AfterFunc(watched, func() { // awaited below
		defer close(tried)
		if err := asleep(ctx, watched); err != nil {
			other = &attempted{err: err}
			leaveHere()
		}
		if !gaveUp(ctx, watched) {
			return
		}
		a := p.attempt(there, o, again-1)
		if other = &a; a.settled() {
			leaveHere()
		}
	})
	first = o.send(here, session)
	if first.settled() {
		leaveThere()
	}
	if !unhook() {
		<-tried
	}
	if other == nil || first.yields(*other) {
		return first, other
	}
	if other.conn != nil { // no peer of ours takes a flow twice
		other.conn.Reset()
	}
	return first, nil
}

// yields reports whether another attempt beside this one is what counts: an exit that has refused the one
// may have taken the other, and what came with it.
func (a attempted) yields(other attempted) bool {
	return !a.settled() || a.conn == nil && other.conn != nil
}

// send is one request for the flow.
func (o *opening) send(ctx context.Context, session *outSession) attempted {
	r := flow.Request{Path: o.Path, Query: o.Query, ID: o.id, Datagrams: o.Datagrams}
	if o.Client != nil {
		r.Early = o.Client.Attempt()
	}
	c, err := session.Open(ctx, r)
	if r.Early != nil && err != nil && !errors.As(err, new(*flow.Refused)) {
		o.sent.Add(int64(r.Early.Stop()))
	}
	return attempted{session, c, err}
}

// failed is what becomes of an error. Where an attempt had no answer, nobody knows whether the
// bytes that it sent were acted on.
func (o *opening) failed(err error) error {
	err = answer.Lost(err)
	if o.sent.Load() > 0 {
		err = fmt.Errorf("%w; %w", err, apps.ErrUnknownOutcome)
	}
	return err
}

// outFlow is a flow that we opened, for the counters.
type outFlow struct {
	*flow.Conn
	p    *Peers
	peer identity.Subject
	id   string // the flow ID
	once sync.Once

	via         // where its connection of its own goes, if it has one; guarded by p.mu
	moves  bool // the peer knows how that goes on in another; guarded by p.mu
	moving bool // it is about to; guarded by p.mu
	asks   bool // it has lasted, and there was no direct path since; guarded by p.mu

	session *outSession // static
	direct  bool        // static: it was opened on a direct session
	lasts   *time.Timer // wishes for a direct path; nil: it has one. Static
}

// track counts the flow until it is closed.
func (p *Peers) track(s *outSession, c *flow.Conn, id string) net.Conn {
	peer := s.Peer()
	f := &outFlow{Conn: c, p: p, peer: peer, id: id, session: s, direct: s.is()}
	if peer.ID != p.Self {
		if !f.direct {
			f.lasts = time.AfterFunc(p.direct.Delay(peer.ID, lasting), func() { p.lasted(f) })
		}
		c.OnOffload(func() { p.Work.GoUpTo(&p.offloads, limits.Offloads, func() { p.offload(f) }) })
	}
	p.mu.Lock()
	p.outFlows[f] = struct{}{}
	p.mu.Unlock()
	if direct.WithDatagrams && c.Datagrams() && peer.ID != p.Self {
		c.OnBeside(func() { p.goBeside(f) })
		p.goBeside(f)
	}
	return f
}

// lasted has a direct path made for a flow that lasts. Where that is not possible now the flow asks
// again: see follow.
func (p *Peers) lasted(f *outFlow) {
	p.mu.Lock()
	f.asks = true
	p.mu.Unlock()
	p.wish(f.peer.ID)
}

func (f *outFlow) Close() error {
	err := f.Conn.Close()
	f.done()
	return err
}

func (f *outFlow) Reset() error {
	err := f.Conn.Reset()
	f.done()
	return err
}

func (f *outFlow) done() {
	f.once.Do(func() {
		if f.lasts != nil && f.lasts.Stop() && f.Sent()+f.Received() > wishBytes {
			f.p.wish(f.peer.ID)
		}
		f.p.mu.Lock()
		defer f.p.mu.Unlock()
		delete(f.p.outFlows, f)
		f.leaveLocked()
		f.p.addTotalLocked(f.peer.ID, f.Conn)
	})
}
