package hub

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"time"

	"ztm/hub/admission"
	"ztm/hub/limits"
	"ztm/hub/shared"
	"ztm/tunnel"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	"ztm/tunnel/limit"
)

// How a device with a join token gets its certificate:
//
//  1. It shows, in the handshake, that it holds a key, and in a header block, that it holds a
//     token. (readJoin) Until then it has a place among the handshakes, and from then on one among
//     those that join.
//  2. The token names who redeems it: a root endpoint, which is asked over its events stream, by
//     this hub or by the one that it is attached to, or this hub, if it keeps the CA key. (redeem)
//     One that names the mesh is redeemed by any hub that keeps the CA key and shares a store.
//  3. The certificate, or a refusal, goes back in a header block.

// signTimeout is how long the hub waits for the redeemer: shorter than the device does, so that the
// device learns the reason.
const signTimeout = tunnel.JoinTimeout - 5*time.Second

// joinPath is the path of the only request that a joining device may make.
const joinPath = "/v1/join"

// join serves a joining device.
func (s *server) join(ctx context.Context, c *tls.Conn, below *admission.Socket) {
	der, err := s.admit(ctx, c, below)
	below.SetDeadline(time.Now().Add(limits.WriteTimeout))
	if err == nil {
		s.metrics.joins.ok.Add(1)
		err = tunnel.WriteHeader(c, tunnel.FieldStatus, "200", tunnel.FieldCert, base64.StdEncoding.EncodeToString(der))
	} else {
		s.metrics.joins.refused.Add(1)
		s.refusals.Info("join "+below.From.String(), "a device may not join", "addr", below.RemoteAddr(), "err", err)
		err = tunnel.WriteError(c, answer.Public(err))
	}
	if err == nil {
		c.CloseWrite()
	}
}

// admit returns a certificate for the joining device at the other end of c.
func (s *server) admit(ctx context.Context, c *tls.Conn, below *admission.Socket) ([]byte, error) {
	below.SetDeadline(time.Now().Add(limits.JoinRequestTimeout))
	req, err := readJoin(c)
	if err != nil {
		return nil, err
	}
	release, err := s.mayJoin(below)
	if err != nil {
		return nil, err
	}
	defer release()
	redeemer, err := req.Proof.Redeemer()
	if err != nil {
		return nil, answer.Errorf(answer.BadRequest, "%v", err)
	}
	if redeemer == s.id || redeemer == s.verifier.Trust().Mesh() {
		return s.redeem(req, redeemer)
	}
	name, session, err := s.sessions.find(redeemer)
	what := tunnel.SignRequest{Join: req, Name: s.claims.Check(req)}
	if err != nil {
		below.SetDeadline(time.Time{})
		asking, cancel := context.WithTimeout(ctx, signTimeout)
		defer cancel()
		if der, asked, err := s.links.Sign(asking, redeemer, what); asked {
			return der, err
		}
	}
	switch {
	case name == "":
		return nil, answer.Errorf(answer.Unavailable, "the endpoint that redeems this token (%s) is not in the mesh", redeemer)
	case err != nil:
		return nil, answer.Errorf(answer.Unavailable, "the endpoint that redeems this token (%s) is offline", name)
	}
	below.SetDeadline(time.Time{})
	return s.signers.ask(ctx, session, what)
}

// mayJoin acquires a place among the joining devices, once the request of the device is read.
func (s *server) mayJoin(below *admission.Socket) (release func(), err error) {
	s.handshakes.Leave(below)
	if !s.joins.Take(below.From, time.Now()) {
		return nil, answer.Errorf(answer.Limit, "too many devices join from this address: try again in a minute")
	}
	if !s.joiningFrom.Acquire(below.From, s.config.Limits.JoinsPerSource) {
		return nil, answer.Errorf(answer.Limit, "too many devices join from this address at the moment: try again in a minute")
	}
	if !s.joining.Acquire(struct{}{}, s.config.Limits.Joins) {
		s.joiningFrom.Release(below.From)
		return nil, answer.Errorf(answer.Limit, "too many devices join at the moment: try again in a minute")
	}
	return func() {
		s.joining.Release(struct{}{})
		s.joiningFrom.Release(below.From)
	}, nil
}

// readJoin reads a request to join, which must be for the key that the device has shown to hold.
func readJoin(c *tls.Conn) (*tunnel.JoinRequest, error) {
	key, err := identity.JoiningKey(c.ConnectionState())
	if err != nil {
		return nil, answer.Errorf(answer.Denied, "%v", err)
	}
	h, err := tunnel.ReadHeader(c)
	if err != nil {
		// The error may quote all that the device sent, and the answer must fit into a header
		// block.
		return nil, answer.Errorf(answer.BadRequest, "%s", limit.Clip(err.Error()))
	}
	if h[tunnel.FieldMethod] != "POST" || h[tunnel.FieldPath] != joinPath {
		return nil, errNoPath
	}
	b, err := base64.StdEncoding.DecodeString(h[tunnel.FieldRequest])
	if err != nil {
		return nil, answer.Errorf(answer.BadRequest, "join request: %s", limit.Clip(err.Error()))
	}
	req := new(tunnel.JoinRequest)
	if err := json.Unmarshal(b, req); err != nil {
		return nil, answer.Errorf(answer.BadRequest, "join request: %s", limit.Clip(err.Error()))
	}
	if !key.Equal(ed25519.PublicKey(req.Key)) {
		return nil, answer.Errorf(answer.Denied, "the request is for another key than the device has")
	}
	if err := identity.CheckName(req.Name); err != nil {
		return nil, answer.Errorf(answer.BadRequest, "endpoint %v", err)
	}
	return req, nil
}

// redeem is the hub as the redeemer of a token, or as one of those that are. Everything is checked
// and made before the token is spent, and the token is spent before anything is handed out.
func (s *server) redeem(req *tunnel.JoinRequest, redeemer identity.ID) ([]byte, error) {
	err := s.maySign()
	if redeemer != s.id && (err != nil || s.shared == nil) { // another hub may
		return nil, answer.Errorf(answer.Unavailable, "this token is redeemed by hubs that keep the CA key and share a store, and this hub is none of them")
	}
	if err != nil {
		return nil, err
	}
	now := s.verifier.Clock().Now()
	invitation, err := s.ca.CheckProof(req.Proof, req.Key, req.Name, redeemer, now)
	if err != nil {
		return nil, answer.Errorf(answer.Denied, "%v", err)
	}
	if invitation.Approve {
		return nil, answer.Errorf(answer.Denied, "a hub asks nobody: a token with approval is redeemed by an endpoint of user %s", identity.RootUser)
	}
	if err := s.claims.Check(req).Check(req.Name, invitation.User); err != nil {
		return nil, err
	}
	der, err := s.ca.SignMember(req.Key, invitation.User, invitation.Admitted, now)
	if err != nil {
		return nil, err
	}
	if err := s.verifyNew(der, identity.RoleMember, identity.IDOf(req.Key)); err != nil {
		return nil, answer.Errorf(answer.Denied, "%v", err)
	}
	if err := shared.Redeem(context.Background(), s.shared, s.state, invitation, redeemer == s.id, req.Key, now); err != nil {
		return nil, err
	}
	s.log.Info("a device has joined with a token", "endpoint", identity.IDOf(req.Key), "name", req.Name, "user", invitation.User)
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
