package keep

import (
	"bytes"
	"testing"

	"ztm/agent/policy"
	"ztm/apps"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	signed "ztm/tunnel/identity/policy"
)

// reason is why an endpoint lets bob have a terminal, or does not.
func (n *node) reason() policy.Reason {
	return n.Rights().Decide(apps.Peer{User: "bob"}, "terminal", "shell", n.now()).Reason
}

func TestADeviceThatJoinsKnowsThePolicyBeforeItHasMetAHolder(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		root := m.join("root", "root")
		if first := root.ForPermit(); first != nil {
			t.Errorf("a permit has the head %q, and there is no policy", first)
		}
		root.propose(func(s *signed.Source) error { s.Mode = signed.Enforce; return nil })
		first := root.ForPermit()
		root.propose(func(s *signed.Source) error {
			s.Users["bob"] = signed.User{}
			s.Grants = []signed.Grant{{Name: "work", Who: []signed.Who{{Name: "bob", Added: 1}}, To: []string{"terminal"}, At: []string{"*"}, From: []string{"*"}}}
			return nil
		})
		m.mu.Lock()
		root.online = false
		m.mu.Unlock()
		office, bare := m.joinWith("office", "alice", first), m.join("bare", "alice")
		if got := office.reason(); got != policy.NoGrant || office.Version() != 1 {
			t.Errorf("who has joined with version %d decides: %s", office.Version(), got)
		}
		if got := bare.reason(); got != policy.NoPolicy {
			t.Errorf("who knows of no policy decides: %s", got)
		}
		m.mu.Lock()
		root.online = true
		m.mu.Unlock()
		eventually(t, "the newest version is in force", func() bool { return office.reason() == policy.Granted })
	})
}

func TestTheHeadOfAPermitTakesNoNewerOnesPlace(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		root, office := m.join("root", "root"), m.join("office", "alice")
		office.lets("bob") // a rule there names the group
		root.propose(put(0, "bob"))
		first := root.ForPermit()
		root.propose(put(0, "carol"))
		eventually(t, "the office has both", func() bool { return office.lets("carol") && office.Version() == 2 })
		office.stop()
		office.first = first
		office.start(office.State)
		if v := office.Version(); v != 2 || !office.lets("carol") {
			t.Errorf("who has joined again has version %d and lets carol in: %v", v, office.lets("carol"))
		}
	})
}

func TestAPermitWithTheHeadOfAnotherMeshIsRefused(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		other := newMesh(t)
		head := func(m *mesh) []byte {
			root := m.join("root", "root")
			root.propose(put(0, "bob"))
			return root.ForPermit()
		}
		own, strange := head(m), head(other)
		for what, c := range map[string]struct {
			head []byte
			ok   bool
		}{
			"none": {nil, true}, "its own": {own, true}, "another mesh's": {strange, false}, "a changed": {bytes.Replace(own, []byte(`"version":1`), []byte(`"version":9`), 1), false},
		} {
			err := CheckPermit(&identity.Permit{CA: string(m.ca.CertificatePEM()), Policy: c.head})
			if (err == nil) != c.ok || err != nil && answer.CodeOf(err) != answer.BadRequest {
				t.Errorf("a permit with %s head: %v", what, err)
			}
		}
	})
}
