package agent

import (
	"net/http"
	"strings"
	"time"

	"ztm/agent/audit"
	"ztm/agent/limits"
	"ztm/agent/peers"
	"ztm/agent/policy/keep"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	"ztm/tunnel/seal"
)

// What peers ask of this endpoint beside flows:
//
//	ANY  /v1/api/...     management, for the same user's endpoints alone
//	GET  /v1/ping        204
//	GET, POST /v1/trust  the trust list: a hub may withhold it, peers pass it on
//	.../v1/policy...     the policy of the mesh, see package keep
//	POST /v1/renew       a new certificate for the caller's own key, from a holder of the CA key

// answer answers a request of a peer that is no flow.
func (m *mesh) answer(w http.ResponseWriter, r *http.Request, peer identity.Subject) {
	switch path := r.URL.Path; {
	case strings.HasPrefix(path, seal.PathAPI):
		if peer.User != m.authority.User() {
			if err := m.readsPolicy(r, peer); err != nil {
				answer.Fail(w, m.log, err)
				return
			}
		}
		m.serveManagement(w, r, peer)
	case path == seal.PathPing:
		w.WriteHeader(http.StatusNoContent)
	case strings.HasPrefix(path, keep.PathHead):
		m.policy.Serve(w, r, peer, peer.User == rootUser)
	case path == seal.PathTrust:
		m.authority.ServeTrust(w, r, peer)
	case path == seal.PathRenew && r.Method == http.MethodPost:
		m.authority.ServeRenew(w, peer)
	default:
		answer.Fail(w, m.log, answer.Errorf(answer.NotFound, "endpoint %s does not serve %s", m.Self().Name, path))
	}
}

// readsPolicy returns nil if a peer of another user asks who can reach what here, and may. What others
// ask is recorded, and so is that they were refused.
func (m *mesh) readsPolicy(r *http.Request, peer identity.Subject) error {
	l := audit.Line{Event: audit.Flow, Result: audit.OK, User: peer.User, PeerID: peer.ID, App: "policy", Target: "read " + r.URL.Query().Get("target")}
	reads, err := m.policy.Reads(r, strings.TrimPrefix(r.URL.Path, seal.PathAPI), peers.PeerOf(peer), peer.User == rootUser)
	switch {
	case !reads:
		l.App, l.Target = "", "manage"
		err = answer.Errorf(answer.Denied, "endpoint %s belongs to user %s: user %s may not manage it", m.Self().Name, m.authority.User(), peer.User)
	case err != nil:
		l.Target = "read" // of what, is the peer's to say: each would be a line of its own
	}
	if err != nil {
		l.Event, l.Result, l.Reason, l.Rule = audit.Refused, audit.No, audit.ReasonOf(err), err.Error()
	}
	m.auditFlow(l)
	return err
}

// serveManagement answers a request of an endpoint of this endpoint's own user.
func (m *mesh) serveManagement(w http.ResponseWriter, r *http.Request, peer identity.Subject) {
	if r.ContentLength != 0 {
		if !m.managing.Acquire(peer.ID, limits.ManagedPeer) {
			answer.Fail(w, m.log, answer.Errorf(answer.Limit, "endpoint %s has %d requests in progress already", peer.ID, limits.ManagedPeer))
			return
		}
		defer m.managing.Release(peer.ID)
		http.NewResponseController(w).SetReadDeadline(time.Now().Add(limits.ManageTime))
	}
	m.serveEndpoint(w, r, strings.TrimPrefix(r.URL.Path, seal.PathAPI), peer.ID)
}
