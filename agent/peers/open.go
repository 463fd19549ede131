package peers

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/url"
	"sync"
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
//  3. track         counted until it is closed; gets a connection of its own when it moves much (offload.go)

// Opening is a flow that is to be opened.
type Opening struct {
	To        identity.ID
	Path      string // the app, and what is asked of it
	Query     url.Values
	Datagrams bool
	Client    *apps.Early // whose first bytes go along; nil: nobody's

	id   string // the flow ID
	sent int    // bytes of the client that attempts without an answer have sent
}

// openTimeout bounds the opening of a flow, the session and the exit's own dialling, where the
// caller does not.
const openTimeout = 30 * time.Second

// Open opens a flow, as [apps.Mesh] says.
func (p *Peers) Open(ctx context.Context, o Opening) (net.Conn, error) {
	if _, limited := ctx.Deadline(); !limited {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, openTimeout, errTimeout)
		defer cancel()
	}
	o.id = rand.Text()
	for attempt := 0; ; attempt++ {
		session, err := p.pool.get(ctx, o.To)
		if err != nil {
			return nil, o.failed(err)
		}
		watched, stop := p.watch(ctx, session)
		c, answered, err := o.attempt(watched, session)
		hangs := gaveUp(ctx, watched)
		stop()
		switch {
		case err == nil:
			return p.track(session, c, o.id), nil
		case answered:
			return nil, o.failed(err)
		case ctx.Err() != nil:
			return nil, o.failed(context.Cause(ctx))
		case attempt >= maxAgain || session.Err() == nil && !hangs:
			return nil, o.failed(err)
		}
		// The warm session had died unnoticed, or it hangs. Once more on another, with the same ID: a
		// peer that had begun with the flow refuses it, so that nothing is done twice.
		if !hangs {
			session.Close()
		}
	}
}

// maxAgain is how often a flow that had no answer is opened again: once where a session had died,
// and once more where a hub hangs meanwhile.
const maxAgain = 2

// attempt opens the flow on a session. If it fails, it reports whether the peer has answered.
func (o *Opening) attempt(ctx context.Context, session flow.Session) (c *flow.Conn, answered bool, err error) {
	r := flow.Request{Path: o.Path, Query: o.Query, ID: o.id, Datagrams: o.Datagrams}
	if o.Client != nil {
		r.Early = o.Client.Attempt()
	}
	c, err = session.Open(ctx, r)
	answered = err == nil || errors.As(err, new(*flow.Refused))
	if !answered && r.Early != nil {
		o.sent += r.Early.Stop()
	}
	return c, answered, err
}

// failed is what becomes of an error. Where an attempt had no answer, nobody knows whether the
// bytes that it sent were acted on.
func (o *Opening) failed(err error) error {
	err = answer.Lost(err)
	if o.sent > 0 {
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
			f.lasts = time.AfterFunc(p.direct.Delay(peer.ID, lasting), func() { p.wish(peer.ID) })
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
