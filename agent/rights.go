package agent

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"time"

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
		State: &appState{m.agent.db, m.name + "/policy/"}, First: m.Membership().Policy, Work: &m.work, Life: m.life,
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
		Apps:  func() []string { return slices.Sorted(maps.Keys(m.apps)) },
		Judge: m.rejudge,

		Applied:  m.policyApplied,
		Announce: m.notices.TellGroup,
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

// rule returns the rule of an app here, for what a grant calls name.
func (m *mesh) rule(app, name string) (keep.Rule, error) {
	a := m.apps[app]
	if a == nil {
		return keep.Rule{}, answer.Errorf(answer.NotFound, "endpoint %s has no app %q", m.Self().Name, app)
	}
	r, ok := a.(apps.Ruled)
	if !ok {
		return keep.Rule{}, answer.Errorf(answer.NotFound, "app %s does not say whom its rules name", app)
	}
	who, err := r.Rule(name)
	out := keep.Rule{Who: who}
	if d, ok := a.(apps.Deciding); ok {
		out.Lets = func(p apps.Peer) bool { return d.Lets(p, name) }
	}
	return out, err
}
