package keep

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"ztm/apps"
	signed "ztm/tunnel/identity/policy"
)

func TestAGrantToReadThePolicyCountsWhereGrantsAreEnforced(t *testing.T) {
	for _, mode := range []string{signed.Observe, signed.Enforce} {
		bubble(t, func(t *testing.T, m *mesh) {
			root, office := m.join("root", "root"), m.join("office", "alice")
			root.propose(func(s *signed.Source) error {
				s.Mode = mode
				s.Users["bob"] = signed.User{}
				s.Grants = []signed.Grant{{Name: "auditors", Who: []signed.Who{{Name: "bob", Added: 1}}, To: []string{"policy/read"}, At: []string{"*"}, From: []string{"*"}}}
				return nil
			})
			eventually(t, "the policy is in force", func() bool { return office.status().InForce })
			reads := func(user string) bool {
				return office.Reads(httptest.NewRequest(http.MethodGet, "/", nil), "policy/who-can", apps.Peer{User: user}, false)
			}
			if got, want := reads("bob"), mode == signed.Enforce; got != want || reads("carol") {
				t.Errorf("mode %q: bob with a grant reads: %v, carol without: %v", mode, got, reads("carol"))
			}
		})
	}
}
