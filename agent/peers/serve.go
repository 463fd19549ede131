package peers

import (
	"context"
	"net"
	"net/http"
	"strings"
	"sync"

	"ztm/agent/audit"
	"ztm/apps"
	"ztm/tunnel"
	"ztm/tunnel/answer"
	"ztm/tunnel/h2"
	"ztm/tunnel/identity"
	"ztm/tunnel/seal"
	"ztm/tunnel/unixtime"
)

// What peers ask of this endpoint, on sealed sessions that they opened:
//
//	POST /v1/apps/APP/PATH    a flow; the app decides whether this peer may
//	ANY  /v1/api/...         management, for the same user's endpoints alone
//	GET  /v1/ping            204
//	GET, POST /v1/trust      the trust list: a hub may withhold it, peers pass it on
//	.../v1/policy...         the policy of the mesh, see package keep
//	POST /v1/renew           a new certificate for the caller's own key, from a holder of the CA key
//	POST /v1/direct...       a round of a direct path, see package direct
//
// The peer is known from the leaf certificate of the session, and verified again for every request.

// inbound is a sealed session that a peer opened.
type inbound struct {
	directly
	leg     *tunnel.Leg // what carries it; nil: something else does
	conn    net.Conn
	peer    identity.Subject
	release func() // gives back its place; set by addInbound
	export  func(context []byte, length int) ([]byte, error)
	beside  beside
	done    chan struct{} // closed when it is over
}

// Accept seals a path as the server and serves what comes. It returns when the handshake is done,
// which ctx governs; from is who asked for the path, and user whose endpoint that is, as the hub has
// it.
func (p *Peers) Accept(ctx context.Context, path net.Conn, from identity.ID, user string, hub identity.ID) {
	accepted, err := seal.Server(ctx, path, p.Verifier, p.Certificate, p.turns.Of(user))
	if err != nil {
		p.PeerLog.Info("handshake "+string(from), "a peer's session was refused", "asked by", from, "err", err)
		return
	}
	p.admit(accepted, path, hub, directly{})
}

// admit serves what was sealed: on a path through a hub, or on a direct one.
func (p *Peers) admit(accepted seal.Accepted, path net.Conn, hub identity.ID, how directly) {
	if accepted.Dedicated != nil {
		p.acceptOffload(accepted, path, hub)
		return
	}
	conn, peer := accepted.Session, accepted.Peer
	leg, _ := path.(*tunnel.Leg)
	in := &inbound{directly: how, leg: leg, conn: conn, peer: peer, export: accepted.Export, done: make(chan struct{})}
	if err := p.addInbound(in); err != nil {
		p.PeerLog.Warn("session "+string(peer.ID), "a peer's session was refused", "peer", peer.ID, "user", peer.User, "err", err)
		p.turnedAway(peer, audit.Limited, err)
		conn.Close()
		return
	}
	p.arrived(peer)
	// The list may have changed between the handshake and now.
	if p.reverify(peer) != nil {
		conn.Close()
	}
	p.server.Serve(&h2.Tagged{Conn: &inboundConn{Conn: conn, p: p, in: in}, Tag: in, RTT: accepted.RTT})
}

func (p *Peers) addInbound(in *inbound) error {
	peer := in.peer
	if !p.sessionsOf.Acquire(peer.ID, p.Limits.SessionsPeer) {
		return answer.Errorf(answer.Limit, "endpoint %s has %d sessions here already", peer.ID, p.Limits.SessionsPeer)
	}
	release, ok := p.sessions.Acquire(peer.User, func() {
		p.PeerLog.Warn("sessions "+peer.User, "a session makes room for another user's", "user", peer.User, "peer", peer.ID)
		p.Work.Go(func() { in.conn.Close() })
	})
	if !ok {
		p.sessionsOf.Release(peer.ID)
		return answer.Errorf(answer.Limit, "there are %d sessions here already, and user %s has as many as others", p.Limits.Sessions, peer.User)
	}
	in.release = func() {
		release()
		p.sessionsOf.Release(peer.ID)
	}
	p.mu.Lock()
	p.inbound[in] = struct{}{}
	p.mu.Unlock()
	return nil
}

// PeerOf is a member as apps know it.
func PeerOf(s identity.Subject) apps.Peer {
	return apps.Peer{ID: s.ID, User: s.User, Admitted: unixtime.Of(s.Admitted)}
}

// inboundConn forgets the session when net/http closes it.
type inboundConn struct {
	net.Conn
	p    *Peers
	in   *inbound
	once sync.Once
}

func (c *inboundConn) Close() error {
	c.once.Do(func() {
		c.p.mu.Lock()
		delete(c.p.inbound, c.in)
		c.p.mu.Unlock()
		c.in.release()
		close(c.in.done)
	})
	return c.Conn.Close()
}

// server is Peers as its peers see it.
type server struct{ *Peers }

// ServeHTTP answers one request of a peer.
//
// A flow at rest waits below, so that this stack and those down to the socket are no deeper than
// they must be: what a goroutine waits on for hours decides how much stack it keeps. With all that
// is below 1,100 bytes it keeps 4 KiB, else 8.
func (p server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	in := h2.Tag(r).(*inbound)
	switch {
	case !p.admits(w, in):
		in.conn.Close()
	case strings.HasPrefix(r.URL.Path, seal.PathApps):
		p.serveFlow(w, r, in)
	default:
		p.serveOther(w, r, in)
	}
}

// serveOther answers what is no flow.
func (p *Peers) serveOther(w http.ResponseWriter, r *http.Request, in *inbound) {
	p.tell(w)
	if !strings.HasPrefix(r.URL.Path, seal.PathDirect) || !p.direct.Serve(w, r, p.opens(in)) {
		p.Answer(w, r, in.peer)
	}
}

// tell has an answer say which trust list and policy are in force here. A flow that is accepted has
// no use for it.
func (p *Peers) tell(w http.ResponseWriter) {
	w.Header().Set(seal.FieldTrust, p.Verifier.Trust().Head().String())
	p.Mark(w.Header())
}

// admits verifies the peer again, for this request, and answers it if it may not ask any longer.
func (p *Peers) admits(w http.ResponseWriter, in *inbound) bool {
	err := p.reverify(in.peer)
	if err != nil {
		p.tell(w)
		p.turnedAway(in.peer, audit.Evicted, err)
		answer.Fail(w, p.Log, answer.Errorf(answer.Denied, "%v", err))
	}
	return err == nil
}
