package agent

import (
	"net/http"
	"path/filepath"

	"ztm/agent/audit"
	"ztm/agent/audit/sink"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
)

// newAudit makes the audit log of this mesh.
func (m *mesh) newAudit() {
	m.audit = audit.New(audit.Config{
		Lines: m.limits.AuditLines, Now: m.agent.clock.Now, Name: m.nameOf,
		Self: func() (string, identity.ID) { return m.Membership().Name, m.agent.self },
	})
	m.sinks = sink.New(sink.Config{Audit: m.audit, Key: m.agent.key, Dir: filepath.Join(m.agent.config.Data, "audit"), Name: m.name, Log: m.log})
}

// auditState keeps the settings of the audit log.
func (m *mesh) auditState() *appState { return &appState{m.agent.db, m.name + "/audit/"} }

// startAudit puts the saved settings of the audit log in force.
func (m *mesh) startAudit() {
	var s sink.Settings
	_, err := m.auditState().Load("config", &s)
	if err == nil {
		err = s.Check()
	}
	if err != nil {
		m.log.Error("the audit log stays in memory: its settings cannot be read", "err", err)
		return
	}
	m.sinks.Use(s)
}

// auditFlow adds a line about a flow of a peer. Those of the endpoint's own user are no news to them.
func (m *mesh) auditFlow(l audit.Line) {
	if l.User == m.authority.User() && !m.sinks.Settings().Own {
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

func (m *mesh) serveAudit(w http.ResponseWriter, r *http.Request, path string) {
	var err error
	if path == "config" {
		err = m.sinks.Serve(w, r, func(s sink.Settings) error { return m.auditState().Save("config", s) })
	} else {
		err = m.audit.Serve(w, r, path)
	}
	if err != nil {
		answer.Fail(w, m.log, err)
	}
}
