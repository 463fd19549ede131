package agent

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"ztm/agent/policy"
	"ztm/agent/policy/keep"
	"ztm/apps"
	"ztm/tunnel"
	"ztm/tunnel/answer"
	"ztm/tunnel/flow"
	"ztm/tunnel/identity"
)

// newKeeper makes the keeper of the policy of this mesh.
func (m *mesh) newKeeper() *keep.Keeper {
	return keep.New(keep.Config{
		Self: m.agent.self, Log: m.log, PeerLog: m.peerLog, Verifier: m.verifier, Signer: m.authority.Signer,
		State: &appState{m.agent.db, m.name + "/policy/"}, Work: &m.work, Life: m.life,
		Ask: func(ctx context.Context, to identity.ID, method, path string, body []byte) (*http.Response, error) {
			return m.peers.Ask(ctx, to, method, path, body)
		},
		Holders: m.Signers,
		Online: func(ctx context.Context) ([]apps.Endpoint, error) {
			return m.Endpoints(ctx, apps.Filter{Online: true})
		},
		Hint:  func(t time.Time) { m.verifier.Clock().Hint(t, m.authority.Own().NotAfter) },
		User:  m.authority.User,
		Rule:  m.rule,
		Judge: m.rejudge,

		Applied: m.policyApplied,
	})
}

// syncTrust brings hub and agent to the same trust list and, in each new session, asks which policy
// there is.
func (m *mesh) syncTrust(s *tunnel.Session, e tunnel.Event) {
	m.authority.SyncTrust(s, e)
	if m.asked.Swap(s) != s {
		m.policy.Connected()
	}
}

// answered compares with a peer what both know of the mesh.
func (m *mesh) answered(s flow.Session, resp *http.Response) {
	m.authority.CompareTrust(s, resp)
	m.policy.Compare(s, resp)
}

// awaitRule gets what the rule for a target names and is not known here yet.
func (m *mesh) awaitRule(ctx context.Context, app, path, address string) {
	if who, err := m.rule(app, policy.Target(app, path, address)); err == nil {
		m.policy.Await(ctx, who)
	}
}

// judge returns nil if the policy gives a peer what it asks of an app. The endpoint's own user needs
// no grant.
func (m *mesh) judge(p apps.Peer, app, path, address string) error {
	if p.User != "" && p.User == m.authority.User() {
		return nil
	}
	name := policy.Target(app, path, address)
	d := m.policy.Rights().Decide(p, app, name, m.verifier.Clock().Now().Unix())
	switch {
	case d.Allow:
		return nil
	case d.Reason == policy.Ended:
		what, end := strings.TrimSpace(app+" "+name), time.Unix(d.Until, 0).UTC()
		err := answer.Errorf(answer.Denied, "policy: the access of user %s ended %s", p.User, end.Format(time.RFC3339))
		if d.Grant != "" {
			err = answer.Errorf(answer.Denied, "policy: grant %s gave user %s %s until %s", d.Grant, p.User, what, end.Format(time.RFC3339))
		}
		return &apps.Ended{What: what, At: end, Err: err}
	case d.Reason == policy.WrongDevice:
		return answer.Errorf(answer.Denied, "policy: grant %s is not for endpoint %s of user %s", d.Grant, p.ID, p.User)
	case d.Reason == policy.StalePolicy:
		return answer.Errorf(answer.Denied, "policy: a newer version is in force in the mesh, and this endpoint has not got it: no endpoint that holds the CA key answers")
	}
	return answer.Errorf(answer.Denied, "policy: no grant gives user %s %s %s here", p.User, app, name)
}

// ruleOf says what lets a peer have what it asks for: a grant of the policy, the term of the owner's
// rule that names it, or both.
func (m *mesh) ruleOf(p apps.Peer, app, path, address string) string {
	if p.User == m.authority.User() {
		return "the endpoint's own user"
	}
	var out []string
	name := policy.Target(app, path, address)
	if d := m.policy.Rights().Decide(p, app, name, m.verifier.Clock().Now().Unix()); d.Grant != "" {
		out = append(out, "grant "+d.Grant)
	} else if d.Reason == policy.WouldRefuse {
		out = append(out, "no grant: refused once grants are enforced")
	}
	who, err := m.rule(app, name)
	if i := slices.IndexFunc(who, func(term string) bool { return m.policy.Names(p, []string{term}) }); err == nil && i >= 0 {
		out = append(out, "users "+who[i])
	}
	return strings.Join(out, "; ")
}

// rule returns whom the rule of an app here names, for what a grant calls name.
func (m *mesh) rule(app, name string) ([]string, error) {
	a := m.apps[app]
	if a == nil {
		return nil, answer.Errorf(answer.NotFound, "endpoint %s has no app %q", m.Self().Name, app)
	}
	r, ok := a.(apps.Ruled)
	if !ok {
		return nil, answer.Errorf(answer.NotFound, "app %s does not say whom its rules name", app)
	}
	return r.Rule(name)
}
