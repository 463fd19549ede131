package keep

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"ztm/agent/api"
	"ztm/apps"
	"ztm/tunnel/identity"
	signed "ztm/tunnel/identity/policy"
	"ztm/tunnel/unixtime"
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
				may, err := office.Reads(httptest.NewRequest(http.MethodGet, "/", nil), "policy/who-can", apps.Peer{User: user}, false)
				return may && err == nil
			}
			if got, want := reads("bob"), mode == signed.Enforce; got != want || reads("carol") {
				t.Errorf("mode %q: bob with a grant reads: %v, carol without: %v", mode, got, reads("carol"))
			}
		})
	}
}

func TestWhoCanSaysOfAnEndOnlyWhatEndsAndOfTheEndedThatTheyHave(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		root, office := m.join("root", "root"), m.join("office", "alice")
		office.App = func(string) any { return ruled(func(string) []string { return []string{"bob", "gone"} }) }
		end := unixtime.Of(time.Now().Add(time.Hour))
		mode := func(mode string) {
			root.propose(func(s *signed.Source) error {
				s.Mode, s.Users["bob"], s.Users["gone"] = mode, signed.User{}, signed.User{Until: 2}
				s.Grants = []signed.Grant{{Name: "web", Who: []signed.Who{{Name: "bob", Added: 1}, {Name: "gone", Added: 1}}, To: []string{"tunnel"}, At: []string{"*"}, From: []string{"*"}, Until: end}}
				return nil
			})
			eventually(t, "the policy is in force", func() bool { return office.status().InForce && office.status().Mode == mode })
		}
		for _, c := range []struct {
			mode string
			ends bool
		}{{signed.Observe, false}, {signed.Enforce, true}} {
			mode(c.mode)
			out, err := office.whoCan(t.Context(), "tunnel/tcp/web", "")
			if err != nil {
				t.Fatal(err)
			}
			rows := map[string]api.Access{}
			for _, r := range out.Rows {
				rows[r.User] = r
			}
			if bob := rows["bob"]; !bob.Allow || bob.Until.IsZero() == c.ends {
				t.Errorf("%s: bob: %+v", c.mode, bob)
			}
			if gone := rows["gone"]; gone.Allow || gone.Until.IsZero() || gone.Rule != "no: their access as a whole has ended" {
				t.Errorf("%s: whose access has ended: %+v", c.mode, gone)
			}
		}
	})
}

func TestWhoCanListsWhoCanFromSomeEndpointsAloneAndEverybody(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		root, office, till := m.join("root", "root"), m.join("office", "alice"), m.join("till", "bob")
		until := time.Now().Add(time.Hour).Truncate(time.Second)
		who := []string{"label:kind=till"}
		office.App = func(string) any { return ruled(func(string) []string { return who }) }
		root.propose(func(s *signed.Source) error {
			s.Mode, s.Users["bob"], s.Users["carol"] = signed.Enforce, signed.User{}, signed.User{}
			s.Endpoints["till"] = signed.Endpoint{ID: till.peer.ID, Labels: []string{"kind=till"}}
			grant := func(name string, who signed.Who, to, from string, until unixtime.Seconds) {
				s.Grants = append(s.Grants, signed.Grant{Name: name, Who: []signed.Who{who}, To: []string{to}, At: []string{"*"}, From: []string{from}, Until: until})
			}
			grant("tills", signed.Who{Name: "bob", Added: 1}, "tunnel/tcp/db", "label:kind=till", unixtime.Of(until))
			grant("web", signed.Who{Name: "*"}, "tunnel/tcp/web", "*", 0)
			grant("dns", signed.Who{Name: "carol", Added: 1}, "tunnel/udp/dns", "*", 0)
			return nil
		})
		eventually(t, "the policy is in force", func() bool { return office.status().InForce })
		asks := func(target string, of identity.ID, want ...api.Access) {
			t.Helper()
			k := office
			if of != "" {
				k = root
			}
			out, err := k.whoCan(t.Context(), target, of)
			if err != nil {
				t.Fatal(err)
			}
			var got []api.Access
			for _, r := range out.Rows {
				if r.Allow && r.User != "alice" {
					got = append(got, api.Access{User: r.User, From: r.From, Until: r.Until})
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s of %q, rule %v: %v, want %v", target, of, who, got, want)
			}
		}
		limited := api.Access{User: "bob", From: "label:kind=till", Until: until.UTC()}
		asks("tunnel/tcp/db", office.Self, limited)
		asks("tunnel/udp/dns", "", api.Access{User: "carol", From: "label:kind=till"})
		asks("tunnel/tcp/web", "", api.Access{User: "bob", From: "label:kind=till"}, api.Access{User: "carol", From: "label:kind=till"}, api.Access{User: "*", From: "label:kind=till"})
		who = []string{apps.ByPolicy}
		asks("tunnel/tcp/db", "", limited)
		asks("tunnel/tcp/web", "", api.Access{User: "bob"}, api.Access{User: "carol"}, api.Access{User: "*"})
		asks("tunnel/tcp/ssh", "")
		who = []string{"carol"}
		asks("tunnel/tcp/db", "")
		asks("tunnel/tcp/web", "", api.Access{User: "carol"})
	})
}
