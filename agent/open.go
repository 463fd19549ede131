package agent

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"ztm/agent/api"
	"ztm/apps"
	"ztm/tunnel/answer"
	"ztm/tunnel/flow"
	"ztm/tunnel/identity"
)

// The way of a flow that this agent opens:
//
//  1. pool.get      a warm session with the peer, or a new one
//  2. Session.Open  one request, and what the client has sent by then; the exit's app accepts or refuses
//  3. track         counted until it is closed; asks for a lane when it moves much (lane.go)

// Open implements apps.Mesh.
func (m *mesh) Open(ctx context.Context, to identity.ID, path string, query url.Values) (net.Conn, error) {
	return m.open(ctx, opening{to: to, path: path, query: query})
}

// OpenDatagrams implements apps.Mesh.
func (m *mesh) OpenDatagrams(ctx context.Context, to identity.ID, path string, query url.Values) (net.Conn, error) {
	return m.open(ctx, opening{to: to, path: path, query: query, datagrams: true})
}

// OpenEarly implements apps.EarlyOpener.
func (m *mesh) OpenEarly(ctx context.Context, to identity.ID, path string, query url.Values, client *apps.Early) (net.Conn, error) {
	return m.open(ctx, opening{to: to, path: path, query: query, client: client})
}

var _ apps.EarlyOpener = (*mesh)(nil)

// opening is a flow that is to be opened.
type opening struct {
	to        identity.ID
	path      string
	query     url.Values
	datagrams bool
	client    *apps.Early // whose first bytes go along; may be nil
	word      string      // our name for it, see lane.go
	sent      int         // bytes of the client that attempts without an answer have sent
}

// openTimeout bounds the opening of a flow, the session and the exit's own dialling, where the caller does not.
const openTimeout = 30 * time.Second

func (m *mesh) open(ctx context.Context, o opening) (net.Conn, error) {
	if _, limited := ctx.Deadline(); !limited {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, openTimeout, errAskTimeout)
		defer cancel()
	}
	o.word = rand.Text()
	for attempt := 0; ; attempt++ {
		session, err := m.pool.get(ctx, o.to)
		if err != nil {
			return nil, o.failed(err)
		}
		c, answered, err := o.attempt(ctx, session)
		switch {
		case err == nil:
			return m.track(session.Peer(), c, o.word), nil
		case answered:
			return nil, o.failed(err)
		case ctx.Err() != nil:
			return nil, o.failed(context.Cause(ctx))
		case attempt > 0 || session.Err() == nil:
			return nil, o.failed(err)
		}
		// The warm session had died unnoticed. Once more on a new one, with the same word: a peer that had begun with the
		// flow before the session died refuses it, so that nothing is done twice.
		session.Close()
	}
}

// attempt opens the flow on a session. If it fails, it reports whether the peer has answered.
func (o *opening) attempt(ctx context.Context, session flow.Session) (c *flow.Conn, answered bool, err error) {
	r := flow.Request{Path: o.path, Query: o.query, ID: o.word, Datagrams: o.datagrams}
	if o.client != nil {
		r.Early = o.client.Attempt()
	}
	c, err = session.Open(ctx, r)
	answered = err == nil || errors.As(err, new(*flow.Refused))
	if !answered && r.Early != nil {
		o.sent += r.Early.Stop()
	}
	return c, answered, err
}

// failed is what becomes of an error. Where an attempt had no answer, nobody knows whether the bytes that it sent were acted on.
func (o *opening) failed(err error) error {
	err = appError(err)
	if o.sent > 0 {
		err = fmt.Errorf("%w; %w", err, apps.ErrUnknownOutcome)
	}
	return err
}

// responseError reads a peer's refusal.
func responseError(resp *http.Response) error {
	defer resp.Body.Close()
	b, err := answer.Limited(resp.Body, maxRefusal)
	if err != nil {
		return answer.Errorf(answer.Broken, "the peer answered with status %s", resp.Status)
	}
	return answer.Parse(resp.StatusCode, b)
}

// outFlow is a flow that we opened, for the counters.
type outFlow struct {
	*flow.Conn
	m    *mesh
	peer identity.Subject
	once sync.Once
}

// track counts the flow until it is closed.
func (m *mesh) track(peer identity.Subject, c *flow.Conn, word string) net.Conn {
	f := &outFlow{Conn: c, m: m, peer: peer}
	if peer.ID != m.agent.self {
		c.OnOffload(func() { m.spawnUpTo(&m.offloads, maxOffloads, func() { m.openLane(c, peer.ID, word) }) })
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.outFlows[f] = struct{}{}
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
		f.m.mu.Lock()
		defer f.m.mu.Unlock()
		delete(f.m.outFlows, f)
		f.m.addTotalLocked(f.peer.ID, f.Sent(), f.Received())
	})
}

func (m *mesh) addTotalLocked(peer identity.ID, sent, received int64) {
	t := m.totals[peer]
	if t == nil {
		t = &api.PeerStats{}
		m.totals[peer] = t
	}
	t.Sent += uint64(sent)
	t.Received += uint64(received)
}

// stats adds up what flows have moved, those that ended and those that run.
func (m *mesh) stats() api.Stats {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := api.Stats{Peers: map[identity.ID]api.PeerStats{}}
	for id, t := range m.totals {
		s.Peers[id] = *t
	}
	live := func(peer identity.ID, c *flow.Conn) {
		p := s.Peers[peer]
		p.Sent += uint64(c.Sent())
		p.Received += uint64(c.Received())
		p.Active++
		if c.Offloaded() {
			p.Offloaded++
		}
		s.Peers[peer] = p
	}
	for f := range m.outFlows {
		live(f.peer.ID, f.Conn)
	}
	for f := range m.flows {
		if f.conn != nil {
			live(f.peer.ID, f.conn)
		}
	}
	for id, p := range s.Peers {
		p.Name = m.known.nameOf(id)
		s.Peers[id] = p
		s.Sent, s.Received, s.Active = s.Sent+p.Sent, s.Received+p.Received, s.Active+p.Active
		s.Offloaded += p.Offloaded
	}
	return s
}
