package agent

import (
	"context"
	"errors"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"ztm/apps"
	"ztm/tunnel/answer"
	"ztm/tunnel/flow"
	"ztm/tunnel/h2"
	"ztm/tunnel/identity"
	"ztm/tunnel/seal"
)

// What peers ask of this endpoint, on sealed sessions that they opened:
//
//	POST /v1/apps/APP/PATH    a flow; the app decides whether this peer may
//	ANY  /v1/api/...         management, for the same user's endpoints alone
//	GET  /v1/ping            204
//	GET, POST /v1/trust      the trust list: a hub may withhold it, peers pass it on
//	POST /v1/renew           a new certificate for the caller's own key, from a holder of the CA key
//
// The peer is known from the leaf certificate of the session, and verified again for every request.

// inbound is a sealed session that a peer opened.
type inbound struct {
	conn    net.Conn
	peer    identity.Subject
	release func() // gives back its place; set by addInbound
}

// serveCarrier seals a carrier as the server and serves what comes. It returns when the handshake is done; ctx governs the handshake.
func (m *mesh) serveCarrier(ctx context.Context, carrier net.Conn, from identity.ID) {
	accepted, err := seal.Server(ctx, carrier, m.verifier, m.certificate)
	if err != nil {
		m.peerLog.Info("handshake "+string(from), "a peer's session was refused", "asked by", from, "err", err)
		return
	}
	if accepted.Dedicated != nil {
		m.serveLane(accepted, carrier)
		return
	}
	conn, peer := accepted.Session, accepted.Peer
	in := &inbound{conn: conn, peer: peer}
	if err := m.addInbound(in); err != nil {
		m.peerLog.Warn("session "+string(peer.ID), "a peer's session was refused", "peer", peer.ID, "user", peer.User, "err", err)
		conn.Close()
		return
	}
	m.arrived(peer)
	// The list may have changed between the handshake and now.
	if m.reverify(peer) != nil {
		conn.Close()
	}
	m.server.Serve(&h2.Tagged{Conn: &inboundConn{Conn: conn, m: m, in: in}, Tag: in, RTT: accepted.RTT})
}

func (m *mesh) addInbound(in *inbound) error {
	peer := in.peer
	if !m.sessionsOf.Acquire(peer.ID, m.limits.SessionsPeer) {
		return answer.Errorf(answer.Limit, "endpoint %s has %d sessions here already", peer.ID, m.limits.SessionsPeer)
	}
	release, ok := m.sessions.Acquire(peer.User, func() {
		m.peerLog.Warn("sessions "+peer.User, "a session makes room for another user's", "user", peer.User, "peer", peer.ID)
		m.spawn(func() { in.conn.Close() })
	})
	if !ok {
		m.sessionsOf.Release(peer.ID)
		return answer.Errorf(answer.Limit, "there are %d sessions here already, and user %s has as many as others", m.limits.Sessions, peer.User)
	}
	in.release = func() {
		release()
		m.sessionsOf.Release(peer.ID)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.inbound[in] = struct{}{}
	return nil
}

// peerOf is a member as apps know it.
func peerOf(s identity.Subject) apps.Peer {
	return apps.Peer{ID: s.ID, User: s.User, Admitted: s.Admitted.Unix()}
}

// inboundConn forgets the session when net/http closes it.
type inboundConn struct {
	net.Conn
	m    *mesh
	in   *inbound
	once sync.Once
}

func (c *inboundConn) Close() error {
	c.once.Do(func() {
		c.m.mu.Lock()
		delete(c.m.inbound, c.in)
		c.m.mu.Unlock()
		c.in.release()
	})
	return c.Conn.Close()
}

// servePeer answers one request of a peer. A flow at rest waits below, so that this stack and that of serveFlow are no deeper than they must be:
// what a goroutine waits on for hours decides how much stack it keeps.
func (m *mesh) servePeer(w http.ResponseWriter, r *http.Request) {
	in := h2.Tag(r).(*inbound)
	switch {
	case !m.admits(w, in):
		in.conn.Close()
	case strings.HasPrefix(r.URL.Path, seal.PathApps):
		m.serveFlow(w, r, in)
	default:
		m.serveRequest(w, r, in)
	}
}

// admits verifies the peer again, for this request, and answers it if it may not ask any more.
func (m *mesh) admits(w http.ResponseWriter, in *inbound) bool {
	w.Header().Set(seal.FieldTrust, strconv.FormatUint(m.verifier.Trust().Version(), 10))
	err := m.reverify(in.peer)
	if err != nil {
		answer.Fail(w, m.log, answer.Errorf(answer.Denied, "%v", err))
	}
	return err == nil
}

// serveRequest answers a request that is no flow.
func (m *mesh) serveRequest(w http.ResponseWriter, r *http.Request, in *inbound) {
	switch path := r.URL.Path; {
	case strings.HasPrefix(path, seal.PathAPI):
		if in.peer.User != m.user() {
			answer.Fail(w, m.log, answer.Errorf(answer.Denied, "endpoint %s belongs to user %s: user %s may not manage it",
				m.Self().Name, m.user(), in.peer.User))
			return
		}
		m.serveManagement(w, r, in)
	case path == seal.PathPing:
		w.WriteHeader(http.StatusNoContent)
	case path == seal.PathTrust:
		m.serveTrust(w, r, in)
	case path == seal.PathRenew && r.Method == http.MethodPost:
		m.serveRenew(w, in.peer)
	default:
		answer.Fail(w, m.log, answer.Errorf(answer.NotFound, "endpoint %s does not serve %s", m.Self().Name, path))
	}
}

// serveManagement answers a request of an endpoint of this endpoint's own user.
func (m *mesh) serveManagement(w http.ResponseWriter, r *http.Request, in *inbound) {
	if r.ContentLength != 0 {
		if !m.managing.Acquire(in.peer.ID, maxManagedPeer) {
			answer.Fail(w, m.log, answer.Errorf(answer.Limit, "endpoint %s has %d requests in progress already", in.peer.ID, maxManagedPeer))
			return
		}
		defer m.managing.Release(in.peer.ID)
		http.NewResponseController(w).SetReadDeadline(time.Now().Add(manageTime))
	}
	m.serveEndpoint(w, r, strings.TrimPrefix(r.URL.Path, seal.PathAPI))
}

// inFlow is one request of a peer for an app. It implements apps.Flow.
type inFlow struct {
	m      *mesh
	peer   apps.Peer
	app    string
	path   string
	query  url.Values
	w      http.ResponseWriter
	r      *http.Request
	word   string // the peer's name for it, see lane.go
	cancel context.CancelFunc

	once  sync.Once
	conn  *flow.Conn // nil until accepted; guarded by m.mu
	laned bool       // a lane came already; guarded by m.mu
	cut   bool       // guarded by m.mu
}

var _ apps.Flow = (*inFlow)(nil)

func (m *mesh) serveFlow(w http.ResponseWriter, r *http.Request, in *inbound) {
	f, app := m.begin(w, r, in)
	if f == nil {
		return
	}
	defer m.leave()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	f.cancel = cancel
	if m.enlist(f) {
		app.Serve(ctx, f)
		m.departed(f.peer, app)
	}
	if f.end() {
		// Returning would end the stream cleanly; the peer must see that it was cut off.
		panic(http.ErrAbortHandler)
	}
}

// begin finds the app of a flow and counts the flow in, or refuses it and returns nil.
func (m *mesh) begin(w http.ResponseWriter, r *http.Request, in *inbound) (*inFlow, apps.App) {
	name, path, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, seal.PathApps), "/")
	app := m.apps[name]
	if app == nil || r.Method != http.MethodPost {
		answer.Fail(w, m.log, answer.Errorf(answer.NotFound, "endpoint %s has no app %q", m.Self().Name, name))
		return nil, nil
	}
	if !m.enter() {
		answer.Fail(w, m.log, answer.Errorf(answer.Unavailable, "endpoint %s is leaving", m.Self().Name))
		return nil, nil
	}
	return &inFlow{m: m, peer: peerOf(in.peer), app: name, path: path, query: r.URL.Query(), w: w, r: r,
		word: r.Header.Get(seal.FieldFlow)}, app
}

// flowKey is what a peer calls a flow.
type flowKey struct {
	peer identity.ID
	id   string
}

func (f *inFlow) key() flowKey { return flowKey{f.peer.ID, f.word} }

// enlist adds the flow to those that run, and refuses one that was opened before.
func (m *mesh) enlist(f *inFlow) bool {
	m.mu.Lock()
	again := m.recent.has(f.peer.ID, f.word) || m.named[f.key()] != nil
	m.flows[f] = struct{}{}
	if !again && f.word != "" && len(f.word) <= maxFlowID {
		m.named[f.key()] = f
	}
	m.mu.Unlock()
	if again {
		f.Refuse(answer.Errorf(answer.Conflict, "this flow was opened before"))
	}
	return !again
}

// end closes what the app left open, counts, and reports whether the stream must be reset.
func (f *inFlow) end() (reset bool) {
	f.once.Do(func() { answer.Fail(f.w, f.m.log, answer.Errorf(answer.Internal, "app %s did not answer", f.app)) })
	f.m.mu.Lock()
	conn, cut := f.conn, f.cut
	delete(f.m.flows, f)
	if f.m.named[f.key()] == f {
		delete(f.m.named, f.key())
	}
	f.m.mu.Unlock()
	if conn == nil {
		return cut
	}
	reset = conn.Finish() || cut
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	f.m.addTotalLocked(f.peer.ID, conn.Sent(), conn.Received())
	return reset
}

func (f *inFlow) Peer() apps.Peer   { return f.peer }
func (f *inFlow) Path() string      { return f.path }
func (f *inFlow) Query() url.Values { return f.query }

func (f *inFlow) Accept() (net.Conn, error)          { return f.accept(false) }
func (f *inFlow) AcceptDatagrams() (net.Conn, error) { return f.accept(true) }

func (f *inFlow) accept(datagrams bool) (net.Conn, error) {
	err := errors.New("the flow was answered already")
	var conn *flow.Conn
	f.once.Do(func() {
		if f.isCut() { // access was taken away while the app prepared
			err = errors.New("the flow was cut")
			return
		}
		if conn, err = flow.Accept(f.w, f.r, datagrams); err != nil {
			return
		}
		f.m.mu.Lock()
		defer f.m.mu.Unlock()
		f.conn = conn
		f.m.recent.add(f.peer.ID, f.word)
		if f.cut {
			conn.Reset()
		}
	})
	if err != nil {
		return nil, err
	}
	return conn, nil
}

func (f *inFlow) isCut() bool {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	return f.cut
}

func (f *inFlow) Refuse(err error) {
	f.once.Do(func() {
		e := answer.Public(err)
		if !errors.As(err, new(*answer.Error)) {
			f.m.peerLog.Warn("flow "+string(f.peer.ID), "a flow failed", "app", f.app, "flow", f.path, "peer", f.peer.ID, "err", err)
		}
		answer.Fail(f.w, f.m.log, e)
	})
}

// cutFlows ends the running flows for which match says so.
func (m *mesh) cutFlows(match func(*inFlow) bool) {
	m.mu.Lock()
	out := slices.Collect(maps.Keys(m.flows))
	m.mu.Unlock()
	for _, f := range out {
		if !match(f) {
			continue
		}
		m.mu.Lock()
		f.cut = true
		conn := f.conn
		m.mu.Unlock()
		if conn != nil {
			conn.Reset()
		}
		f.cancel()
	}
}
