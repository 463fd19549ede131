package hub

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"time"

	"ztm/hub/limits"
	"ztm/tunnel"
	"ztm/tunnel/answer"
	"ztm/tunnel/h2"
	"ztm/tunnel/identity"
	"ztm/tunnel/limit"
)

// leg is one end of a relayed path: an agent that waits for the hub's answer. It is answered once,
// by accept or refuse, and finished once.
type leg struct {
	peer   *peer
	accept func() (net.Conn, error) // answers 200; from then on the path owns the connection
	refuse func(*answer.Error)      // answers "no"
	finish func()                   // closes the leg; safe to call in any state
	gone   <-chan struct{}          // closed when the agent has gone; nil where that cannot be seen
}

// carry serves a connection that speaks tunnel.RelayProto and is in peers already.
func (s *server) carry(ctx context.Context, c *tls.Conn, p *peer) {
	l := s.connLeg(c, p)
	if !s.welcomes(p) || !s.relay.undecided.acquire(p, s.config.Limits) {
		l.finish()
		return
	}
	h, err := s.await(c, p)
	s.relay.undecided.release(p)
	if err == nil && !s.welcomes(p) { // it may have been evicted meanwhile
		err = errGone
	}
	if err != nil {
		s.log.Debug("relayed path", "endpoint", p.ID, "addr", p.addr, "err", err)
		l.finish()
		return
	}
	s.relay.serve(ctx, l, h)
}

// undecided counts the legs without a header block yet: of an endpoint, and of all endpoints of a
// user.
type undecided struct {
	byEndpoint limit.Counts[identity.ID]
	byUser     limit.Counts[string]
}

func (u *undecided) acquire(p *peer, l Limits) bool {
	if !u.byEndpoint.Acquire(p.ID, l.Legs) {
		return false
	}
	if !u.byUser.Acquire(p.User, l.PathsPerUser) {
		u.byEndpoint.Release(p.ID)
		return false
	}
	return true
}

func (u *undecided) release(p *peer) {
	u.byUser.Release(p.User)
	u.byEndpoint.Release(p.ID)
}

// await reads what a leg is for. An agent may keep one as a standby connection, as long as there
// are few of them.
func (s *server) await(c *tls.Conn, p *peer) (tunnel.Header, error) {
	timeout := tunnel.HandshakeTimeout
	if s.relay.standby.Acquire(struct{}{}, s.config.Limits.Paths/4) {
		defer s.relay.standby.Release(struct{}{})
		timeout = tunnel.StandbyTime
	}
	p.raw.SetDeadline(time.Now().Add(timeout))
	return tunnel.ReadHeader(c)
}

// connLeg is a leg that is a connection. While it waits, the hub does not read from it: what it
// read would be missing from the path. A waiting leg ends by an answer or by its timeout.
func (s *server) connLeg(c *tls.Conn, p *peer) *leg {
	l := &leg{peer: p}
	l.finish = sync.OnceFunc(func() {
		s.peers.remove(p)
		p.raw.Close()
	})
	l.accept = func() (net.Conn, error) {
		p.raw.SetDeadline(time.Now().Add(limits.WriteTimeout))
		if err := tunnel.WriteHeader(c, tunnel.FieldStatus, "200"); err != nil {
			return nil, err
		}
		tunnel.Unhurried(p.raw)
		// Neither side uses TLS again, so its buffers can go.
		l.accept, l.refuse = nil, nil
		return p.raw, p.raw.SetDeadline(time.Time{})
	}
	l.refuse = func(r *answer.Error) {
		p.raw.SetDeadline(time.Now().Add(limits.WriteTimeout))
		if tunnel.WriteError(c, r) == nil {
			c.Close()
		}
	}
	return l
}

// carryStream serves a CONNECT request of a control session: a leg of an agent that has no second
// connection.
func (s *server) carryStream(ctx context.Context, w http.ResponseWriter, r *http.Request, p *peer) {
	finished := make(chan struct{})
	l := &leg{
		peer:   p,
		accept: func() (net.Conn, error) { return h2.Accept(r) },
		refuse: func(no *answer.Error) { s.fail(w, no) },
		finish: sync.OnceFunc(func() { close(finished) }),
		gone:   r.Context().Done(),
	}
	h := tunnel.Header{tunnel.FieldMethod: r.Method, tunnel.FieldAuthority: r.Host}
	if ticket := r.Header.Get(tunnel.FieldTicket); ticket != "" {
		h[tunnel.FieldTicket] = ticket
	}
	s.relay.serve(ctx, l, h)
	<-finished
}
