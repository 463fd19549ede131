package hub

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"time"

	"ztm/hub/limits"
	"ztm/hub/relay"
	"ztm/tunnel"
	"ztm/tunnel/answer"
	"ztm/tunnel/h2"
	"ztm/tunnel/identity"
	"ztm/tunnel/limit"
)

// carry serves a connection that speaks tunnel.RelayProto and is in peers already.
func (s *server) carry(ctx context.Context, c *tls.Conn, p *peer) {
	l := s.connLeg(c, p)
	if !s.welcomes(p) || !s.undecided.acquire(p, s.config.Limits) {
		l.Finish()
		return
	}
	h, err := s.await(c, p)
	s.undecided.release(p)
	if err == nil && !s.welcomes(p) { // it may have been evicted meanwhile
		err = errGone
	}
	if err != nil {
		s.log.Debug("relayed path", "endpoint", p.ID, "addr", p.addr, "err", err)
		l.Finish()
		return
	}
	s.relay.Serve(ctx, l, h)
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
	if s.standby.Acquire(struct{}{}, s.config.Limits.Paths/4) {
		defer s.standby.Release(struct{}{})
		timeout = tunnel.StandbyTime
	}
	p.raw.SetDeadline(time.Now().Add(timeout))
	return tunnel.ReadHeader(c)
}

// connLeg is a leg that is a connection. While it waits, the hub does not read from it: what it
// read would be missing from the path. A waiting leg ends by an answer or by its timeout.
func (s *server) connLeg(c *tls.Conn, p *peer) *relay.Leg {
	l := &relay.Leg{ID: p.ID, User: p.User, At: p.addr.Addr()}
	l.Finish = sync.OnceFunc(func() {
		s.peers.remove(p)
		p.raw.Close()
	})
	l.Accept = func(near bool) (net.Conn, error) {
		p.raw.SetDeadline(time.Now().Add(limits.WriteTimeout))
		h := []string{tunnel.FieldStatus, "200", tunnel.FieldSeen, p.addr.String()}
		if near {
			h = append(h, tunnel.FieldNear, "1")
		}
		if err := tunnel.WriteHeader(c, h...); err != nil {
			return nil, err
		}
		tunnel.Unhurried(p.raw)
		// Neither side uses TLS again, so its buffers can go.
		l.Accept, l.Refuse = nil, nil
		return p.raw, p.raw.SetDeadline(time.Time{})
	}
	l.Refuse = func(r *answer.Error) {
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
	l := &relay.Leg{
		ID: p.ID, User: p.User,
		Accept: func(bool) (net.Conn, error) { return h2.Accept(r) },
		Refuse: func(no *answer.Error) { s.fail(w, no) },
		Finish: sync.OnceFunc(func() { close(finished) }),
		Gone:   r.Context().Done(),
	}
	h := tunnel.Header{tunnel.FieldMethod: r.Method, tunnel.FieldAuthority: r.Host}
	if ticket := r.Header.Get(tunnel.FieldTicket); ticket != "" {
		h[tunnel.FieldTicket] = ticket
	}
	s.relay.Serve(ctx, l, h)
	<-finished
}

// deleteTicket is DELETE /v1/tickets/TICKET: an endpoint will not answer a dial-back.
func (s *server) deleteTicket(w http.ResponseWriter, _ *http.Request, p *peer, arg string) error {
	if err := s.relay.Settle(p.ID, arg, nil); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
