package keep

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"

	"ztm/agent/api"
	"ztm/agent/policy"
	"ztm/apps"
	"ztm/tunnel/answer"
	signed "ztm/tunnel/identity/policy"
)

// listing is an app with these rules.
type listing map[string][]string

func (l listing) Rule(name string) ([]string, error)  { return l[name], nil }
func (l listing) Rules() (map[string][]string, error) { return l, nil }

func TestWhatAPeerMayReachIsWhatARuleAndAGrantBothGiveIt(t *testing.T) {
	rights := []string{"", "tcp/db", "tcp/web", "forward/*"}
	given := append([]string{"tcp/*", "forward/10.0.0.0/8:*"}, rights...)
	bubble(t, func(t *testing.T, m *mesh) {
		root, office := m.join("root", "root"), m.join("office", "alice")
		for seed := range uint64(60) {
			r := rand.New(rand.NewPCG(seed, 4))
			rules := listing{}
			for _, name := range rights {
				if r.IntN(2) == 0 {
					rules[name] = []string{[]string{"bob", "carol", "group:ops", "*"}[r.IntN(4)]}
				}
			}
			office.App = func(name string) any {
				return map[string]any{"tunnel": rules, "terminal": ruled(func(string) []string { return nil })}[name]
			}
			office.Apps = func() []string { return []string{"terminal", "tunnel"} }
			version := root.propose(func(s *signed.Source) error {
				s.Mode, s.Users["bob"], s.Users["carol"], s.Grants = []string{signed.Enforce, signed.Observe}[r.IntN(5)/4], signed.User{}, signed.User{}, []signed.Grant{}
				s.Groups["ops"] = signed.Group{Members: []signed.Member{{User: []string{"bob", "carol"}[r.IntN(2)], Added: 1}}}
				for i := range r.IntN(4) {
					to := strings.TrimSuffix("tunnel/"+given[r.IntN(len(given))], "/")
					who := []signed.Who{{Name: "bob", Added: 1}, {Name: "carol", Added: 1}, {Name: "group:ops"}}[r.IntN(3)]
					s.Grants = append(s.Grants, signed.Grant{Name: fmt.Sprint("g", i), Who: []signed.Who{who}, To: []string{to}, At: []string{"*"}, From: []string{"*"}})
				}
				return nil
			})
			eventually(t, "it is in force", func() bool { return office.status().InForce && office.Version() == version })
			p := apps.Peer{User: "bob", ID: root.peer.ID}
			out, err := office.may(t.Context(), p)
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{"tcp/db", "tcp/web", "udp/dns", "forward/10.1.2.3:4", "forward/11.1.2.3:4"} {
				lets := false
				for rule, who := range rules {
					above, all := strings.CutSuffix(rule, "*")
					lets = lets || office.Names(p, who) && (rule == "" || rule == name || all && strings.HasPrefix(name, above))
				}
				want := lets && office.Rights().Decide(p, "tunnel", name, office.now()).Allow
				listed := slices.ContainsFunc(out.Rows, func(a api.Access) bool { return a.App == "tunnel" && reaches(a.Target, name) })
				if listed != want || slices.ContainsFunc(out.Rows, func(a api.Access) bool { return a.User != "bob" }) {
					t.Fatalf("seed %d: bob reaches %s: %v, and is told %+v; rules %v, grants %+v", seed, name, want, out.Rows, rules, office.grants())
				}
			}
		}
	})
}

// reaches reports whether a target that is listed stands for a name.
func reaches(target, name string) bool {
	above, all := strings.CutSuffix(target, "*")
	ten := strings.HasPrefix(target, "forward/10.") && strings.HasPrefix(name, "forward/10.")
	return target == "" || target == name || ten || all && !strings.Contains(above, ":") && strings.HasPrefix(name, above)
}

func TestEverybodyMayAskWhatTheyMayReachAndNobodyTooOften(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		m.join("root", "root")
		office, bob, alice := m.join("office", "alice"), m.join("bob", "bob"), m.join("mine", "alice")
		office.App = func(string) any { return ruled(func(string) []string { return []string{"bob", "carol"} }) }
		got, err := bob.can(t.Context(), office.peer.ID)
		if err != nil || len(got.Rows) != 1 || got.Rows[0].User != "bob" || got.Rows[0].App != "terminal" || !got.Rows[0].Allow {
			t.Errorf("bob is told %+v, %v", got, err)
		}
		if got, err := alice.can(t.Context(), office.peer.ID); err != nil || len(got.Rows) != 1 || got.Rows[0].App != "*" {
			t.Errorf("the endpoint's own user is told %+v, %v", got, err)
		}
		for range askBurst {
			_, err = bob.can(t.Context(), office.peer.ID)
		}
		if answer.CodeOf(err) != answer.Limit {
			t.Errorf("who asks ten times more: %v", err)
		}
		resp, err := bob.ask(t.Context(), office.peer.ID, http.MethodPost, PathSlice, []byte(`{"asked":[]}`))
		if answer.CodeOf(err) == answer.Limit {
			t.Error("who has asked too often what it may reach gets no slice any more")
		} else if err == nil {
			resp.Body.Close()
		}
	})
}

func TestRulesAreListedByWhatAGrantWouldHaveToGive(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		office := m.join("office", "alice")
		office.Apps = func() []string { return []string{"cloud", "terminal", "tunnel"} }
		office.App = func(name string) any {
			return map[string]any{"cloud": struct{}{}, "terminal": ruled(func(string) []string { return []string{"carol", "bob", "bob"} }), "tunnel": listing{"tcp/db": {"group:ops"}, "tcp/web": nil}}[name]
		}
		got, err := office.rules()
		want := []api.Rule{{To: "cloud", Who: []string{"*"}}, {To: "terminal", Who: []string{"bob", "carol"}}, {To: "tunnel/tcp/db", Who: []string{"group:ops"}}}
		if err != nil || !slices.EqualFunc(got, want, func(a, b api.Rule) bool { return a.To == b.To && slices.Equal(a.Who, b.Who) }) {
			t.Errorf("%+v, %v; want %+v", got, err, want)
		}
	})
}

func TestOfTwoNamesTheNarrowOneIsWhatBothHave(t *testing.T) {
	for _, c := range []struct {
		a, b, want string
		meet       bool
	}{{"", "tcp/db", "tcp/db", true}, {"tcp/*", "tcp/db", "tcp/db", true}, {"tcp/db", "tcp/db", "tcp/db", true}, {"*", "x", "x", true},
		{"tcp/*", "tcpx", "", false}, {"tcp/db", "tcp/dbx", "", false}, {"tcp/db*", "tcp/dbx", "", false}, {"forward/*", "tcp/db", "", false}} {
		for _, pair := range [][2]string{{c.a, c.b}, {c.b, c.a}} {
			if got, meet := policy.Meet(pair[0], pair[1]); got != c.want || meet != c.meet {
				t.Errorf("%q: %q, %v", pair, got, meet)
			}
		}
	}
}
