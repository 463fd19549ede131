package keep

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"ztm/agent/api"
	"ztm/apps"
	signed "ztm/tunnel/identity/policy"
)

func TestAGroupWhoseUseIsAnnouncedIsChangedByAFileNotInSilence(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		root := m.join("root", "root")
		root.propose(func(s *signed.Source) error {
			s.Groups["breakglass"] = signed.Group{Members: []signed.Member{}, Notify: true}
			s.Groups["ops"] = signed.Group{Members: []signed.Member{}}
			return nil
		})
		put := func(change func(*signed.Source)) {
			source, version, err := root.Source()
			if err != nil {
				t.Fatal(err)
			}
			next := source.Clone()
			change(next)
			body, err := json.Marshal(api.PolicySource{Version: version, Source: next})
			if err != nil {
				t.Fatal(err)
			}
			w := httptest.NewRecorder()
			root.Manage(w, httptest.NewRequest(http.MethodPut, "/", bytes.NewReader(body)), "source")
			if w.Code != http.StatusOK {
				t.Fatalf("the policy is not taken: %s", w.Body)
			}
		}
		added := []signed.Member{{User: "mallory", Added: 1}}
		put(func(s *signed.Source) {
			s.Groups["breakglass"] = signed.Group{Members: added, Notify: true}
			s.Groups["ops"] = signed.Group{Members: added}
		})
		put(func(s *signed.Source) { s.Direct = signed.DirectOff })
		put(func(s *signed.Source) { delete(s.Groups, "breakglass") })
		if len(root.announced) != 2 || !strings.HasPrefix(root.announced[0], "breakglass: ") || !strings.HasPrefix(root.announced[1], "breakglass: ") {
			t.Errorf("announced: %q", root.announced)
		}
	})
}

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
		for _, group := range []string{"breakglass", "ops"} {
			root.propose(func(s *signed.Source) error {
				s.Grants = slices.DeleteFunc(s.Grants, func(g signed.Grant) bool { return g.Name == group })
				return nil
			})
			w := httptest.NewRecorder()
			root.Manage(w, httptest.NewRequest(http.MethodPost, "/", strings.NewReader(`{"delete":true,"reason":"over"}`)), "groups/"+group)
			if w.Code != http.StatusOK {
				t.Errorf("group %s is not removed: %s", group, w.Body)
			}
		}
		if len(root.announced) != 1 || !strings.HasPrefix(root.announced[0], "breakglass: ") {
			t.Errorf("announced where groups are removed: %q", root.announced)
		}
	})
}
