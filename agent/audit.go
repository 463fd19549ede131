package agent

import (
	"net/http"

	"ztm/agent/audit"
	"ztm/tunnel/identity"
)

// newAudit makes the audit log of this mesh.
func (m *mesh) newAudit() *audit.Log {
	return audit.New(audit.Config{
		Lines: m.limits.AuditLines, Now: m.agent.clock.Now, Name: m.nameOf,
		Self: func() (string, identity.ID) { return m.Membership().Name, m.agent.self },
	})
}

// auditFlow records a flow of a peer. Those of the endpoint's own user are no news to them.
func (m *mesh) auditFlow(l audit.Line) {
	if l.User == m.authority.User() {
		return
	}
	l.Trust = m.verifier.Trust().Version()
	m.audit.Add(l)
}

// audited answers a request to change something, and adds what came of it to the audit log. by is the
// endpoint that asks, of this endpoint's own user; "" is this one.
func (m *mesh) audited(w http.ResponseWriter, r *http.Request, by identity.ID, what string, serve http.HandlerFunc) {
	m.audit.Change(w, r, audit.Line{User: m.authority.User(), PeerID: by, Target: what, Trust: m.verifier.Trust().Version()}, serve)
}
