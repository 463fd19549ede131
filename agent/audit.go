package agent

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"

	"ztm/agent/audit"
	"ztm/agent/audit/sink"
	"ztm/agent/notice"
	"ztm/agent/policy"
	"ztm/agent/policy/keep"
	"ztm/agent/state"
	"ztm/apps"
	"ztm/apps/settings"
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
func (m *mesh) auditState() apps.State { return state.For(m.agent.db, m.name, "audit") }

// newNotices makes what tells the owner of what happens.
func (m *mesh) newNotices() {
	m.notices = notice.New(notice.Config{
		Log: m.log, Self: m.Self, Mesh: m.name, Now: m.agent.clock.Now, Ends: m.authority.RenewBy,
		Target:    policy.Named,
		Evictions: func() []identity.Eviction { return m.verifier.Trust().Evictions() },
		Endpoints: func(ctx context.Context) ([]apps.Endpoint, error) {
			return m.Endpoints(ctx, apps.Filter{User: m.authority.User()})
		},
	})
}

// startNotices puts the saved settings of notices in force, and looks until the mesh ends.
func (m *mesh) startNotices() {
	var s notice.Settings
	if _, err := m.auditState().Load("notices", &s); err != nil {
		m.log.Error("nobody is told anything: the settings of notices cannot be read", "err", err)
	} else if err := s.Check(); err == nil {
		m.notices.Use(s)
	}
	m.work.Go(func() { m.notices.Run(m.life) })
}

func (m *mesh) serveNotices(w http.ResponseWriter, r *http.Request, here bool) {
	was := m.notices.Settings()
	defer func() {
		is := m.notices.Settings()
		was.Secret, is.Secret = secrets(was.Secret, is.Secret)
		was.Webhook, is.Webhook = webhooks(was.Webhook, is.Webhook)
		answer.Explain(w, "%s", settings.Difference(was, is))
	}()
	if err := m.notices.Serve(w, r, here, func(s notice.Settings) error { return m.auditState().Save("notices", s) }); err != nil {
		answer.Fail(w, m.log, err)
	}
}

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
	m.notices.Seen(l)
	if l.User == m.authority.User() && !m.sinks.Settings().Own {
		return
	}
	if l.Result == audit.OK && strings.HasPrefix(l.Rule, keep.NoGrant) {
		l.Reason = audit.WouldRefuse
	}
	l.Policy, l.Trust = m.policy.Version(), m.verifier.Trust().Version()
	m.audit.Add(l)
}

// policyApplied records that a version of the policy is in force here, and has the certificate looked
// at, which goes by it.
func (m *mesh) policyApplied(version uint64, mode string) {
	m.audit.Add(audit.Line{Event: audit.Policy, Result: audit.OK, Target: fmt.Sprintf("version %d", version), Detail: cmp.Or(mode, "groups"), Policy: version, Trust: m.verifier.Trust().Version()})
	m.authority.PolicyApplied()
}

// trustChanged is called when another trust list is in force.
func (m *mesh) trustChanged() {
	version := m.verifier.Trust().Version()
	m.audit.Add(audit.Line{Event: audit.Trust, Result: audit.OK, Target: fmt.Sprintf("version %d", version), Policy: m.policy.Version(), Trust: version})
	m.policy.TrustChanged()
}

// audited answers a request to change something, and adds what came of it to the audit log. by is the
// endpoint that asks, of this endpoint's own user; "" is this one.
func (m *mesh) audited(w http.ResponseWriter, r *http.Request, by identity.ID, what string, serve http.HandlerFunc) {
	about := m.act(what)
	about.PeerID = by
	m.audit.Change(w, r, about, serve)
}

// act is the line of what the endpoint's own user has done.
func (m *mesh) act(what string) audit.Line {
	return audit.Line{Event: audit.Settings, Result: audit.OK, User: m.authority.User(), Target: what, Policy: m.policy.Version(), Trust: m.verifier.Trust().Version()}
}

// admitted records that a device has joined by a token, for which this endpoint has signed.
func (m *mesh) admitted(user, name string, id identity.ID) {
	m.audit.Add(audit.Line{Event: audit.Admitted, Result: audit.OK, User: user, Peer: name, PeerID: id, Target: name, Policy: m.policy.Version(), Trust: m.verifier.Trust().Version()})
}

// explainEviction says for the audit log which device was evicted, if it is one, and why.
func explainEviction(w http.ResponseWriter, device, reason string) {
	if reason != "" {
		reason = "reason: " + reason
	}
	if device != "" && reason != "" {
		device += "; "
	}
	answer.Explain(w, "%s", device+reason)
}

// secrets are two secrets in words that say no more than whether they differ.
func secrets(was, is string) (before, after string) {
	if was != is && was != "" {
		before = "one"
	}
	if was != is && is != "" {
		after = "another"
	}
	return before, after
}

// webhooks are the addresses of two webhooks without what comes after the host: with some services whoever
// knows that may write.
func webhooks(was, is string) (before, after string) {
	before, after = host(was), host(is)
	if before == after && was != is {
		after += "/... (another path)"
	}
	return before, after
}

func host(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return ""
	}
	return u.Scheme + "://" + u.Host
}

func (m *mesh) serveAudit(w http.ResponseWriter, r *http.Request, path string) {
	var err error
	if path == "config" {
		was := m.sinks.Settings()
		err = m.sinks.Serve(w, r, func(s sink.Settings) error { return m.auditState().Save("config", s) })
		is := m.sinks.Settings()
		was.Secret, is.Secret = secrets(was.Secret, is.Secret)
		was.Webhook, is.Webhook = webhooks(was.Webhook, is.Webhook)
		answer.Explain(w, "%s", settings.Difference(was, is))
	} else {
		err = m.audit.Serve(w, r, path)
	}
	if err != nil {
		answer.Fail(w, m.log, err)
	}
}
