package peers

import (
	"context"
	"errors"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"ztm/apps"
	"ztm/tunnel/answer"
	"ztm/tunnel/flow"
	"ztm/tunnel/h2"
	"ztm/tunnel/h2/wire"
	"ztm/tunnel/identity"
	"ztm/tunnel/seal"
)

// inFlow is one request of a peer for an app. It implements apps.Flow.
type inFlow struct {
	p      *Peers
	peer   apps.Peer
	in     *inbound
	app    string
	path   string
	query  url.Values
	w      http.ResponseWriter
	stream *h2.Stream
	ctx    context.Context // of the request. That is not kept: a flow at rest is to be small
	id     string          // the flow ID, by which the peer knows it
	began  time.Time
	to     apps.App // whose the flow is
	rule   string   // what lets the peer; set before the app has the flow

	enlisted bool // owned by serveFlow

	why error // with which it was refused; guarded by once

	once  sync.Once
	conn  *flow.Conn  // nil until accepted; guarded by p.mu
	moved bool        // its dedicated connection came already; guarded by p.mu
	hub   identity.ID // through which that came; guarded by p.mu
	cut   bool        // guarded by p.mu
	noted time.Time   // when the audit log had a line of it that it runs; guarded by p.mu
}

var _ apps.Flow = (*inFlow)(nil)

// serveFlow serves one flow. It waits in the app for as long as the flow lives: see serve.
func (p *Peers) serveFlow(w http.ResponseWriter, r *http.Request, in *inbound) {
	f := p.begin(w, r, in)
	if f == nil {
		return
	}
	if f.enter() {
		f.to.Serve(f.ctx, f)
	}
	f.leave()
}

// begin finds the app of a flow and counts the flow in, or refuses it and returns nil.
func (p *Peers) begin(w http.ResponseWriter, r *http.Request, in *inbound) *inFlow {
	name, path, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, seal.PathApps), "/")
	f := &inFlow{p: p, peer: PeerOf(in.peer), in: in, app: name, to: p.apps[name], path: path, query: r.URL.Query(), w: w, stream: h2.StreamOf(r), ctx: r.Context(),
		id: r.Header.Get(seal.FieldFlow), began: time.Now()}
	if f.to == nil || r.Method != http.MethodPost {
		f.turnAway(answer.Errorf(answer.NotFound, "endpoint %s has no app %q", p.Endpoint().Name, name))
		return nil
	}
	if !p.Work.Enter() {
		f.turnAway(answer.Errorf(answer.Unavailable, "endpoint %s is leaving", p.Endpoint().Name))
		return nil
	}
	return f
}

// enter enlists the flow and reports whether the policy of the mesh lets it go on; else it refuses
// it. What the policy takes away from now on cuts it.
func (f *inFlow) enter() bool {
	if f.enlisted = f.p.enlist(f); !f.enlisted {
		return false
	}
	f.p.Await(f.ctx, f.app, f.path, f.query.Get(targetParam))
	if err := f.judge(); err != nil {
		f.Refuse(err)
		return false
	}
	f.rule = f.p.Rule(f.peer, f.app, f.path, f.query.Get(targetParam))
	return true
}

// leave takes back what begin and enter have done.
func (f *inFlow) leave() {
	if f.enlisted {
		f.p.departed(f.peer, f.to)
	}
	if f.end() {
		f.stream.ResetWith(wire.InternalError) // returning would end the stream cleanly; the peer must see that it was cut off
	}
	f.stream.Cancel()
	f.p.Work.Leave()
}

// turnAway refuses a flow that no app has seen.
func (f *inFlow) turnAway(err error) {
	f.Refuse(err)
	f.audit(nil, false)
}

// flowKey is what a peer calls a flow.
type flowKey struct {
	peer identity.ID
	id   string
}

func (f *inFlow) key() flowKey { return flowKey{f.peer.ID, f.id} }

// enlist adds the flow to those that run, and refuses one that was opened before.
func (p *Peers) enlist(f *inFlow) bool {
	p.mu.Lock()
	again := p.recent.has(f.peer.ID, f.id) || p.named[f.key()] != nil
	p.flows[f] = struct{}{}
	if !again && f.id != "" && len(f.id) <= maxFlowID {
		p.named[f.key()] = f
	}
	p.mu.Unlock()
	if again {
		f.Refuse(answer.Errorf(answer.Conflict, "this flow was opened before"))
	}
	return !again
}

// judge returns nil if the policy of the mesh gives the peer what the flow asks for.
func (f *inFlow) judge() error {
	return f.p.Judge(f.peer, f.app, f.path, f.query.Get(targetParam))
}

// ReapplyPolicy ends the flows that the policy of the mesh does not give their peers any longer, and has the
// apps look at what runs by their own rules.
func (p *Peers) ReapplyPolicy() {
	p.cutFlows(func(f *inFlow) bool { return f.judge() != nil })
	for name, app := range p.apps {
		if j, ok := app.(apps.Judge); ok {
			j.Judge(func(peer apps.Peer, path string) bool { return p.Judge(peer, name, path, "") == nil })
		}
	}
}

// end closes what the app left open, counts, and reports whether the stream must be reset.
func (f *inFlow) end() (reset bool) {
	f.once.Do(func() {
		f.why = answer.Errorf(answer.Internal, "app %s did not answer", f.app)
		f.p.tell(f.w)
		answer.Fail(f.w, f.p.Log, f.why)
	})
	f.p.mu.Lock()
	conn, cut := f.conn, f.cut
	delete(f.p.flows, f)
	if f.p.named[f.key()] == f {
		delete(f.p.named, f.key())
	}
	f.p.mu.Unlock()
	if conn == nil {
		f.audit(nil, cut)
		return cut
	}
	reset = conn.Finish() || cut
	f.audit(conn, cut)
	f.p.mu.Lock()
	defer f.p.mu.Unlock()
	f.p.addTotalLocked(f.peer.ID, conn)
	return reset
}

func (f *inFlow) Peer() apps.Peer   { return f.peer }
func (f *inFlow) Path() string      { return f.path }
func (f *inFlow) Query() url.Values { return f.query }

func (f *inFlow) Accept() (net.Conn, error)          { return f.accept(false) }
func (f *inFlow) AcceptDatagrams() (net.Conn, error) { return f.accept(true) }

func (f *inFlow) accept(datagrams bool) (net.Conn, error) {
	err := errRunTwice
	var conn *flow.Conn
	f.once.Do(func() {
		if f.isCut() { // access was taken away while the app prepared
			err = errors.New("the flow was cut")
			return
		}
		if conn, err = flow.Accept(f.stream, datagrams, f.in.beside.way()); err != nil {
			return
		}
		f.p.mu.Lock()
		defer f.p.mu.Unlock()
		f.conn = conn
		f.p.recent.add(f.peer.ID, f.id)
		if f.cut {
			conn.Reset()
		}
	})
	if err != nil {
		return nil, err
	}
	f.in.beside.lead(conn) // it may have come meanwhile
	f.auditOpened()
	return conn, nil
}

func (f *inFlow) isCut() bool {
	f.p.mu.Lock()
	cut := f.cut
	f.p.mu.Unlock()
	return cut
}

func (f *inFlow) Refuse(err error) {
	f.once.Do(func() {
		f.why = err
		ref := f.ref()
		if !errors.As(err, new(*answer.Error)) {
			f.p.PeerLog.Warn("flow "+string(f.peer.ID), "a flow failed", "app", f.app, "flow", f.path, "peer", f.peer.ID, "err", err)
		} else if apps.IsDenial(err) {
			f.p.PeerLog.Info("flow "+string(f.peer.ID)+ref, "a flow was not allowed", "ref", ref, "user", f.peer.User, "peer", f.peer.ID, "app", f.app, "flow", f.target(), "err", err)
		}
		f.p.tell(f.w)
		answer.Fail(f.w, f.p.Log, apps.Refusal(f.p.Endpoint(), f.peer, ref, err))
	})
}

// Cut ends the running flows of an app for which match says so.
func (p *Peers) Cut(app string, match func(peer apps.Peer, path string) bool) {
	p.cutFlows(func(f *inFlow) bool { return f.app == app && match(f.peer, f.path) })
}

// cutFlows ends the running flows for which match says so.
func (p *Peers) cutFlows(match func(*inFlow) bool) {
	p.mu.Lock()
	out := slices.Collect(maps.Keys(p.flows))
	p.mu.Unlock()
	for _, f := range out {
		if !match(f) {
			continue
		}
		p.mu.Lock()
		f.cut = true
		conn := f.conn
		p.mu.Unlock()
		if conn != nil {
			conn.Reset()
		}
		f.stream.Cancel()
	}
}
