package agent

import (
	"net/http"
	"time"

	"ztm/agent/api"
	"ztm/agent/authority"
	"ztm/agent/limits"
	"ztm/tunnel"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
)

// serveTokens shows and ends the join tokens of this endpoint, and answers devices that wait.
//
//	GET tokens, DELETE tokens/ID        those that are open
//	GET tokens/ID                       how often this one has redeemed a token, for another endpoint of root
//	DELETE tokens/ID?until=TIME         one that another endpoint of root has made and this one redeems
//	GET approvals, POST approvals       devices that a person has to approve
func (m *mesh) serveTokens(w http.ResponseWriter, r *http.Request, name, id string) {
	switch {
	case name == "tokens" && id == "" && r.Method == http.MethodGet:
		all, err := m.authority.Tokens(r.Context())
		for i, t := range all {
			all[i].ByName, all[i].RedeemerName = m.nameOf(t.By), m.nameOf(t.Redeemer)
		}
		answer.Reply(w, m.log, all, err)
	case name == "tokens" && r.Method == http.MethodGet:
		used, revoked, err := m.authority.Book.Use(id)
		answer.Reply(w, m.log, tunnel.TokenUse{Used: used, Revoked: revoked}, err)
	case name == "tokens" && r.Method == http.MethodDelete && r.URL.Query().Has("until"):
		until, err := time.Parse(time.RFC3339, r.URL.Query().Get("until"))
		if err != nil {
			answer.Fail(w, m.log, answer.Errorf(answer.BadRequest, "until: %v", err))
			return
		}
		answer.Reply(w, m.log, nil, m.authority.RevokeUntil(id, until))
	case name == "tokens" && r.Method == http.MethodDelete:
		answer.Reply(w, m.log, nil, m.authority.Revoke(r.Context(), id))
	case name == "approvals" && r.Method == http.MethodGet:
		all, err := m.authority.Approvals()
		answer.Reply(w, m.log, all, err)
	case name == "approvals" && r.Method == http.MethodPost:
		var in api.Approve
		if err := answer.Decode(r, limits.Body, &in); err != nil {
			answer.Fail(w, m.log, err)
			return
		}
		nod := authority.Approved
		if in.Deny {
			nod = authority.Refused
		}
		answer.Explain(w, "%s: %s", in.Name, nod)
		out, err := m.authority.Approve(in.Name, nod)
		answer.Reply(w, m.log, out, err)
	default:
		answer.Fail(w, m.log, answer.Errorf(answer.NotFound, "an endpoint does not serve %s %q", r.Method, name))
	}
}

// nameOf is the name of an endpoint, or of the hub, as far as it is known; "" if it is not.
func (m *mesh) nameOf(id identity.ID) string {
	s, hub := m.control.Now()
	switch {
	case id == m.agent.self:
		return m.Membership().Name
	case id == m.verifier.Trust().Mesh():
		return "a hub with the CA key"
	case s != nil && hub.ID == id:
		return "hub " + s.Address()
	}
	return m.known.NameOf(id)
}
