package keep

import (
	"slices"
	"testing"

	"ztm/apps"
	signed "ztm/tunnel/identity/policy"
)

func TestTheUseOfAGroupIsAnnouncedWhereItIsUsed(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		root, office := m.join("root", "root"), m.join("office", "alice")
		root.propose(func(s *signed.Source) error {
			s.Mode = signed.Enforce
			for name, user := range map[string]string{"breakglass": "bob", "ops": "carol"} {
				s.Groups[name] = signed.Group{Members: []signed.Member{{User: user, Added: 1}}, Notify: name == "breakglass"}
				s.Grants = append(s.Grants, signed.Grant{Name: name, Who: []signed.Who{{Name: "group:" + name}}, To: []string{"terminal"}, At: []string{"*"}, From: []string{"*"}})
			}
			return nil
		})
		eventually(t, "the policy is in force", func() bool { return office.Permit(apps.Peer{User: "bob"}, "terminal", "shell", "") == nil })
		for _, user := range []string{"bob", "carol"} {
			rule := office.RuleOf(apps.Peer{User: user}, "terminal", "shell", "")
			if want := map[string]string{"bob": "grant breakglass", "carol": "grant ops; users group:ops"}[user]; rule != want {
				t.Errorf("%s is let in by %q, want %q", user, rule, want)
			}
		}
		if want := []string{"breakglass: user bob uses terminal shell"}; !slices.Equal(office.announced, want) {
			t.Errorf("announced: %q, want %q", office.announced, want)
		}
	})
}
