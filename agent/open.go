package agent

import (
	"context"
	"crypto/rand"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"ztm/agent/api"
	"ztm/apps"
	"ztm/tunnel/capsule"
	"ztm/tunnel/identity"
)

// The way of a flow that this agent opens:
//
//  1. pool.get      a warm session with the peer, or a new one
//  2. capsule.Open  one request; the exit's app accepts or refuses
//  3. track         counted until it is closed; asks for a lane when it moves much (lane.go)

// Open implements apps.Mesh.
func (m *mesh) Open(ctx context.Context, to identity.ID, path string, query url.Values) (net.Conn, error) {
	return m.open(ctx, to, path, query, false)
}

// OpenDatagrams implements apps.Mesh.
func (m *mesh) OpenDatagrams(ctx context.Context, to identity.ID, path string, query url.Values) (net.Conn, error) {
	return m.open(ctx, to, path, query, true)
}

// openTimeout bounds the opening of a flow: the session and the exit's own dialling.
const openTimeout = 30 * time.Second

func (m *mesh) open(ctx context.Context, to identity.ID, path string, query url.Values, datagrams bool) (net.Conn, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, openTimeout, apps.Errorf(apps.Timeout, "endpoint %s does not answer", to))
	defer cancel()
	word := rand.Text()
	for attempt := 0; ; attempt++ {
		session, err := m.pool.get(ctx, to)
		if err != nil {
			return nil, appError(err)
		}
		req, err := http.NewRequest(http.MethodPost, "http://peer/apps/"+path, nil)
		if err != nil {
			return nil, apps.Errorf(apps.BadRequest, "%v", err)
		}
		req.URL.RawQuery = query.Encode()
		req.Header.Set(flowHeader, word)
		c, resp, err := session.Open(ctx, req, datagrams)
		switch {
		case err == nil && c != nil:
			return m.track(session.Peer, c, word), nil
		case err == nil:
			return nil, responseError(resp)
		case ctx.Err() != nil:
			return nil, appError(context.Cause(ctx))
		case attempt > 0 || session.Err() == nil:
			return nil, appError(err)
		}
		// The warm session had died unnoticed. Once more on a new one, with the same word: a peer that had begun with the
		// flow before the session died refuses it, so that nothing is done twice.
		session.Close()
	}
}

// responseError reads a peer's refusal.
func responseError(resp *http.Response) error {
	defer resp.Body.Close()
	e := &apps.Error{}
	if err := decodeLimited(resp.Body, e); err != nil || e.Message == "" {
		return apps.Errorf(apps.Broken, "the peer answered with status %s", resp.Status)
	}
	return e
}

// outFlow is a flow that we opened, for the counters.
type outFlow struct {
	*capsule.Conn
	m    *mesh
	peer identity.Subject
	once sync.Once
}

// track counts the flow until it is closed.
func (m *mesh) track(peer identity.Subject, c *capsule.Conn, word string) net.Conn {
	f := &outFlow{Conn: c, m: m, peer: peer}
	if peer.ID != m.agent.self {
		c.OnBulk(func() { m.goLimited(func() { m.openLane(c, peer.ID, word) }) })
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
	live := func(peer identity.ID, c *capsule.Conn) {
		p := s.Peers[peer]
		p.Sent += uint64(c.Sent())
		p.Received += uint64(c.Received())
		p.Flows++
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
		p.Name = m.names[id]
		s.Peers[id] = p
		s.Sent, s.Received, s.Flows = s.Sent+p.Sent, s.Received+p.Received, s.Flows+p.Flows
	}
	return s
}
