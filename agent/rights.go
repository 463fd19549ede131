package agent

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"time"

	"ztm/agent/policy/keep"
	"ztm/agent/state"
	"ztm/apps"
	"ztm/tunnel"
	"ztm/tunnel/flow"
	"ztm/tunnel/identity"
)

// newKeeper makes the keeper of the policy of this mesh.
func (m *mesh) newKeeper() *keep.Keeper {
	return keep.New(keep.Config{
		Self: m.agent.self, Log: m.log, PeerLog: m.peerLog, Verifier: m.verifier, Signer: m.authority.Signer,
		State: state.For(m.agent.db, m.name, "policy"), First: m.Membership().Policy, Work: &m.work, Life: m.life,
		Ask: func(ctx context.Context, to identity.ID, method, path string, body []byte) (*http.Response, error) {
			return m.peers.Ask(ctx, to, method, path, body)
		},
		AskOnce: func(ctx context.Context, to identity.ID, method, path string, body []byte) (*http.Response, error) {
			return m.peers.AskOnce(ctx, to, method, path, body)
		},
		Holders: m.Signers,
		Online: func(ctx context.Context) ([]apps.Endpoint, error) {
			return m.Endpoints(ctx, apps.Filter{Online: true})
		},
		SigningTime: m.authority.SigningTime, Hint: func(t time.Time) { m.verifier.Clock().Hint(t, m.authority.Own().NotAfter) },
		User:  m.authority.User,
		App:   func(name string) any { return m.apps[name] },
		Apps:  func() []string { return slices.Sorted(maps.Keys(m.apps)) },
		Judge: m.reapplyPolicy,

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
