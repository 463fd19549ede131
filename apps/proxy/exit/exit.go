// Package exit lets peers reach what the policy of this endpoint permits them. The exit's side of a flow:
//
//  1. Serve     path "tcp" or "udp", query target=host:port; the user is the one of the flow's certificate
//  2. resolve   the name, here, to the addresses that the policy permits this user
//  3. dialAny   connect; what goes wrong becomes the refusal of the flow, and reaches the client as such
//  4. Accept    only now; the target may speak first
//  5. Join      until both directions have ended, or until the policy no longer permits the flow
//
// Path "targets" tells a peer what it may reach through this exit, path "resolve" what a name resolves to here.
package exit

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"

	"ztm/apps"
	"ztm/apps/proxy/dns"
	"ztm/apps/proxy/policy"
	"ztm/apps/reach"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	"ztm/tunnel/limit"
	"ztm/tunnel/splice"
)

// Exit lets peers reach what this endpoint's policy permits them.
type Exit struct {
	policy func() *policy.Policy // the policy in force
	names  apps.Names            // static
	sys    *dns.System
	log    *slog.Logger

	mu    sync.Mutex
	flows map[*granted]struct{} // guarded by mu
	count map[identity.ID]int   // flows of each peer, connecting ones included; guarded by mu
}

// New makes the exit. The policy is asked for each flow, so a change holds at once.
func New(p func() *policy.Policy, names apps.Names, sys *dns.System, log *slog.Logger) *Exit {
	return &Exit{policy: p, names: names, sys: sys, log: log, flows: map[*granted]struct{}{}, count: map[identity.ID]int{}}
}

// asker is a peer as the policy knows it.
func (e *Exit) asker(p apps.Peer) policy.Asker {
	return policy.Asker{User: p.User, Names: func(who []string) bool { return e.names(p, who) }}
}

// granted is a running flow and why it is: what the policy is asked again when it changes.
type granted struct {
	peer   apps.Peer
	dest   reach.Dest // in full, as it was resolved
	addr   netip.Addr
	cancel context.CancelFunc
}

// maxFlows of one peer: more than its entrance has clients, and a bound on this endpoint's sockets.
const maxFlows = 4096

// errRevoked is why a flow ends that is no longer permitted.
var errRevoked = errors.New("no longer permitted")

// Serve handles one flow of a peer.
func (e *Exit) Serve(ctx context.Context, f apps.Flow) {
	peer := f.Peer()
	if !e.enter(peer.ID) {
		f.Refuse(answer.Errorf(answer.Limit, "more than %d connections of one endpoint", maxFlows))
		return
	}
	defer e.leave(peer.ID)

	var err error
	switch f.Path() {
	case "tcp":
		err = e.serveStream(ctx, f)
	case "udp":
		err = e.serveDatagrams(ctx, f)
	case "targets":
		err = e.serveTargets(f)
	case "resolve":
		err = e.serveResolve(ctx, f)
	default:
		err = answer.Errorf(answer.NotFound, "the proxy has no %q", limit.Clip(f.Path()))
	}
	if err != nil {
		e.log.Debug("flow refused", "peer", peer.ID, "user", peer.User, "flow", limit.Clip(f.Path()), "err", err)
		f.Refuse(err)
	}
}

func (e *Exit) enter(id identity.ID) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.count[id] >= maxFlows {
		return false
	}
	e.count[id]++
	return true
}

func (e *Exit) leave(id identity.ID) {
	e.mu.Lock()
	if e.count[id]--; e.count[id] == 0 {
		delete(e.count, id)
	}
	e.mu.Unlock()
}

// serveStream answers "tcp". An error means that the flow was not accepted.
func (e *Exit) serveStream(ctx context.Context, f apps.Flow) error {
	target, g, err := e.dialFor(ctx, f, "tcp")
	if err != nil {
		return err
	}
	defer target.Close()
	ctx, release := e.hold(ctx, g)
	defer release()
	conn, err := f.Accept()
	if err != nil {
		return err
	}
	if _, _, err := splice.Join(ctx, conn, target); err != nil {
		e.log.Debug("flow ended", "peer", f.Peer().ID, "user", g.peer.User, "flow", "tcp", "err", err)
	}
	return nil
}

// dialFor connects to what the flow asks for.
func (e *Exit) dialFor(ctx context.Context, f apps.Flow, network string) (net.Conn, *granted, error) {
	d, err := reach.ParseDest(f.Query().Get("target"))
	if err != nil {
		return nil, nil, answer.Errorf(answer.BadRequest, "target: %v", err)
	}
	return e.Dial(ctx, f.Peer(), network, d)
}

// Dial connects to d on behalf of a peer's user. It is also how this endpoint's own clients leave through it.
func (e *Exit) Dial(ctx context.Context, peer apps.Peer, network string, d reach.Dest) (net.Conn, *granted, error) {
	full, addrs, err := e.resolve(ctx, e.asker(peer), d)
	if err != nil {
		return nil, nil, err
	}
	c, addr, err := e.dialAny(ctx, network, addrs, d.Port)
	if err != nil {
		return nil, nil, err
	}
	return c, &granted{peer: peer, dest: full, addr: addr}, nil
}

// hold keeps the flow under the policy: the returned context ends when [exit.revoke] finds it no longer permitted,
// and at the latest when release is called.
func (e *Exit) hold(ctx context.Context, g *granted) (_ context.Context, release func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	g.cancel = func() { cancel(errRevoked) }
	e.mu.Lock()
	e.flows[g] = struct{}{}
	e.mu.Unlock()
	if e.policy().Permit(e.asker(g.peer), g.dest, g.addr) != nil { // it changed while we connected
		g.cancel()
	}
	return ctx, func() {
		e.mu.Lock()
		delete(e.flows, g)
		e.mu.Unlock()
		cancel(nil)
	}
}

// Revoke ends the flows that the policy in force does not permit.
func (e *Exit) Revoke() {
	p := e.policy()
	e.mu.Lock()
	defer e.mu.Unlock()
	for g := range e.flows {
		if p.Permit(e.asker(g.peer), g.dest, g.addr) != nil {
			g.cancel()
		}
	}
}

// Left ends the flows of peers that have left the mesh.
func (e *Exit) Left(gone func(apps.Peer) bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for g := range e.flows {
		if gone(g.peer) {
			g.cancel()
		}
	}
}

// CountOf returns how many flows an endpoint has, those included that are not accepted yet.
func (e *Exit) CountOf(id identity.ID) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.count[id]
}

// Running returns how many flows leave through here.
func (e *Exit) Running() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.flows)
}

// serveTargets answers "targets": one JSON object, then the end.
func (e *Exit) serveTargets(f apps.Flow) error {
	o, err := e.Advertise(e.asker(f.Peer()))
	if err != nil {
		return err
	}
	return say(f, o)
}

// serveResolve answers "resolve", query name and type: one JSON object, then the end.
func (e *Exit) serveResolve(ctx context.Context, f apps.Flow) error {
	ctx, cancel := context.WithTimeout(ctx, dns.Timeout)
	defer cancel()
	q := f.Query()
	a, err := e.Records(ctx, e.asker(f.Peer()), q.Get("name"), q.Get("type"))
	if err != nil {
		return err
	}
	return say(f, a)
}

// say accepts the flow and says v. The peer may have gone: then there is nobody to tell, or to refuse.
func say(f apps.Flow, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	c, err := f.Accept()
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Write(b); err == nil {
		splice.CloseWrite(c)
	}
	return nil
}
