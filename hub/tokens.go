package hub

import (
	"encoding/hex"
	"encoding/json"
	"net/http"

	"ztm/hub/limits"
	"ztm/hub/shared"
	"ztm/tunnel"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	"ztm/tunnel/unixtime"
)

// nonceBytes is how many bytes the nonce of a token has, which is its name here.
const nonceBytes = 16

// getToken is GET /v1/tokens/NONCE, for user root: how often this hub has redeemed a token, or the hubs
// that share a store with it.
func (s *server) getToken(w http.ResponseWriter, r *http.Request, p *peer, nonce string) error {
	if err := s.mayRevoke(r, p, nonce); err != nil {
		return err
	}
	use, err := s.state.Token(nonce)
	if err != nil {
		return err
	}
	together, err := shared.Spent(r.Context(), s.shared, nonce)
	if err != nil {
		return err
	}
	use.Used, use.Revoked = max(use.Used, together.Used), use.Revoked || together.Revoked
	return writeJSON(w, use)
}

// deleteToken is DELETE /v1/tokens/NONCE, for user root: the token is no longer good, here and at the
// hubs that share a store with this one.
func (s *server) deleteToken(w http.ResponseWriter, r *http.Request, p *peer, nonce string) error {
	if err := s.mayRevoke(r, p, nonce); err != nil {
		return err
	}
	b, err := s.readBody(s.bodies, w, r, p, limits.MaxAnswer)
	if err != nil {
		return err
	}
	var use tunnel.TokenUse
	if err := json.Unmarshal(b, &use); err != nil {
		return answer.Errorf(answer.BadRequest, "token: %v", err)
	}
	if err := s.state.Revoke(nonce, use.Expires, unixtime.Of(s.verifier.Clock().Now())); err != nil {
		return err
	}
	if err := shared.Void(r.Context(), s.shared, nonce, use.Expires.Time()); err != nil {
		return err
	}
	s.log.Info("a join token was revoked", "token", nonce, "by", p.ID)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// mayRevoke reports whether a peer may ask for a token, and this hub knows of it: where the peer says who
// redeems it, that is this hub, or all that share a store.
func (s *server) mayRevoke(r *http.Request, p *peer, nonce string) error {
	if p.User != identity.RootUser {
		return answer.Errorf(answer.Denied, "only endpoints of user %s see tokens", identity.RootUser)
	}
	if b, err := hex.DecodeString(nonce); err != nil || len(b) != nonceBytes {
		return answer.Errorf(answer.BadRequest, "%.40q is not the ID of a token", nonce)
	}
	if by := r.URL.Query().Get("redeemer"); by != "" && by != string(s.id) && s.shared == nil {
		return answer.Errorf(answer.Unavailable, "this token is redeemed by hubs that share a store, and this hub has none")
	}
	return s.maySign()
}
