package hub

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net"
	"time"

	"ztm/tunnel"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
)

// The way of a device that has a join token and no certificate:
//
//  1. It shows, in the handshake, that it holds a key, and in a header block, that it holds a token. (request)
//  2. The token names who redeems it: a root endpoint, which is asked over its events stream, or this hub, if it
//     keeps the CA key. (redeem)
//  3. The certificate, or a refusal, goes back in a header block.

// joinPatience is how long the hub waits for the redeemer: less than the device does, so that it hears why.
const joinPatience = tunnel.JoinTimeout - 5*time.Second

// joinPath is the path of the one request that a stranger may make.
const joinPath = "/v1/join"

// join serves a stranger.
func (s *server) join(ctx context.Context, c *tls.Conn, raw *net.TCPConn) {
	raw.SetDeadline(time.Now().Add(tunnel.HandshakeTimeout))
	der, err := s.admit(ctx, c, raw)
	raw.SetDeadline(time.Now().Add(writeTimeout))
	if err == nil {
		s.metrics.joins.ok.Add(1)
		err = tunnel.WriteHeader(c, tunnel.FieldStatus, "200", tunnel.FieldCert, base64.StdEncoding.EncodeToString(der))
	} else {
		s.metrics.joins.refused.Add(1)
		s.log.Info("a device may not join", "addr", addrOf(raw), "err", err)
		err = tunnel.WriteError(c, answer.Public(err))
	}
	if err == nil {
		c.CloseWrite()
	}
}

// admit returns a certificate for the stranger at the other end of c.
func (s *server) admit(ctx context.Context, c *tls.Conn, raw *net.TCPConn) ([]byte, error) {
	if !s.joins.Take(source(addrOf(raw).Addr()), time.Now()) {
		return nil, limited("too many devices join from this address: try again in a minute")
	}
	select {
	case s.joining <- struct{}{}:
		defer func() { <-s.joining }()
	default:
		return nil, limited("too many devices join at the moment: try again in a minute")
	}
	req, err := readJoin(c)
	if err != nil {
		return nil, err
	}
	redeemer, err := req.Proof.Redeemer()
	if err != nil {
		return nil, answer.Errorf(answer.BadRequest, "%v", err)
	}
	if redeemer == s.id {
		return s.redeem(req)
	}
	name, session, err := s.registry.find(redeemer)
	switch {
	case name == "":
		return nil, answer.Errorf(answer.Unavailable, "the endpoint that issued this token (%s) is not in the mesh", redeemer)
	case err != nil:
		return nil, answer.Errorf(answer.Unavailable, "the endpoint that issued this token (%s) is offline", name)
	}
	raw.SetDeadline(time.Time{})
	return s.signers.ask(ctx, session, tunnel.SignRequest{Join: req})
}

// readJoin reads a request to join, which must be for the key that the stranger has shown to hold.
func readJoin(c *tls.Conn) (*tunnel.JoinRequest, error) {
	key, err := identity.StrangerKey(c.ConnectionState())
	if err != nil {
		return nil, answer.Errorf(answer.Denied, "%v", err)
	}
	h, err := tunnel.ReadHeader(c)
	if err != nil {
		return nil, answer.Errorf(answer.BadRequest, "%v", err)
	}
	if h[tunnel.FieldMethod] != "POST" || h[tunnel.FieldPath] != joinPath {
		return nil, errNoPath
	}
	b, err := base64.StdEncoding.DecodeString(h[tunnel.FieldRequest])
	if err != nil {
		return nil, answer.Errorf(answer.BadRequest, "join request: %v", err)
	}
	req := new(tunnel.JoinRequest)
	if err := json.Unmarshal(b, req); err != nil {
		return nil, answer.Errorf(answer.BadRequest, "join request: %v", err)
	}
	if !key.Equal(ed25519.PublicKey(req.Key)) {
		return nil, answer.Errorf(answer.Denied, "the request is for another key than the device has")
	}
	if err := identity.CheckName(req.Name); err != nil {
		return nil, answer.Errorf(answer.BadRequest, "endpoint %v", err)
	}
	return req, nil
}

// redeem is the hub as the redeemer of a token. Everything is checked and made before the token is spent, and the
// token is spent before anything is handed out.
func (s *server) redeem(req *tunnel.JoinRequest) ([]byte, error) {
	if err := s.maySign(); err != nil {
		return nil, err
	}
	now := s.verifier.Clock().Now()
	invitation, err := s.ca.CheckProof(req.Proof, req.Key, req.Name, s.id, now)
	if err != nil {
		return nil, answer.Errorf(answer.Denied, "%v", err)
	}
	if err := s.registry.vacant(req.Name, identity.IDOf(req.Key)); err != nil {
		return nil, err
	}
	der, err := s.ca.SignMember(req.Key, invitation.User, invitation.Admitted, now)
	if err != nil {
		return nil, err
	}
	if err := s.judge(der, identity.RoleMember, identity.IDOf(req.Key)); err != nil {
		return nil, answer.Errorf(answer.Denied, "%v", err)
	}
	err = s.state.redeem(invitation.Nonce, redeemed{Key: req.Key, Expires: invitation.Expires.Unix()}, now.Unix())
	if errors.Is(err, identity.ErrToken) {
		return nil, answer.Errorf(answer.Denied, "%v", err)
	}
	if err != nil {
		return nil, err
	}
	s.log.Info("a device has joined by a token", "endpoint", identity.IDOf(req.Key), "name", req.Name, "user", invitation.User)
	return der, nil
}

// maySign reports whether the hub holds the key of the mesh's newest CA.
func (s *server) maySign() error {
	if s.ca == nil {
		return answer.Errorf(answer.Denied, "this hub does not hold the CA key")
	}
	if s.ca.ID() != s.verifier.Trust().Newest() {
		return answer.Errorf(answer.Denied, "the CA key that this hub holds was replaced")
	}
	return nil
}
