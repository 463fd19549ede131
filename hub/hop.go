package hub

import (
	"context"
	"crypto/tls"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"ztm/hub/limits"
	"ztm/hub/relay"
	"ztm/tunnel"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
)

// carryHop serves a connection of another hub that speaks tunnel.HopProto and is in peers already.
func (s *server) carryHop(ctx context.Context, c *tls.Conn, p *peer) {
	l := s.connLeg(c, p)
	defer l.Finish()
	most := s.config.Limits
	most.Legs, most.PathsPerUser = most.Hops, most.Hops // a hub asks for all of its agents
	if !s.welcomes(p) || !s.undecided.acquire(p, most) {
		return
	}
	h, err := s.await(c, p)
	s.undecided.release(p)
	if err != nil || !s.welcomes(p) {
		return
	}
	target, no := hopOf(h, l)
	if no == nil {
		no = s.relay.Hop(ctx, l, target, p.ID)
	}
	if no != nil {
		s.relay.Metrics().Refused(no)
		s.refuseHop(c, p, no)
	}
}

// hopOf reads the header block of a hop, and makes the leg one of the agent that it names.
func hopOf(h tunnel.Header, l *relay.Leg) (target identity.ID, err error) {
	if h[tunnel.FieldHop] != "1" {
		return "", errLoop
	}
	target, err = identity.ParseID(h[tunnel.FieldAuthority])
	if err == nil && h[tunnel.FieldMethod] != http.MethodConnect {
		err = answer.Errorf(answer.BadRequest, "a path is requested with CONNECT")
	}
	origin, wrong := identity.ParseID(h[tunnel.FieldOrigin])
	if err == nil {
		err = wrong
	}
	if err == nil {
		err = identity.CheckName(h[tunnel.FieldUser])
	}
	if err != nil {
		return "", answer.Errorf(answer.BadRequest, "hop: %v", err)
	}
	l.ID, l.User, l.At, l.Hop = origin, h[tunnel.FieldUser], netip.Addr{}, true
	return target, nil
}

var errLoop = answer.Errorf(answer.BadRequest, "a path goes over two hubs and no more")

// refuseHop answers "no" to another hub. Two statuses are for hubs alone: 421 sends it to the next
// one at once, and 508 says that something is wrong with it.
func (s *server) refuseHop(c *tls.Conn, p *peer, err error) {
	no := answer.Public(err)
	status := no.Status()
	switch no {
	case relay.ErrNotHere:
		status = http.StatusMisdirectedRequest
	case errLoop:
		status = http.StatusLoopDetected
		s.metrics.loops.Add(1)
	}
	p.raw.SetDeadline(time.Now().Add(limits.WriteTimeout))
	err = tunnel.WriteHeader(c, tunnel.FieldStatus, strconv.Itoa(status), tunnel.FieldError, string(no.Code), tunnel.FieldMessage, no.Message)
	if err == nil {
		c.Close()
	}
}
