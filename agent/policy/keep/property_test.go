package keep

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"ztm/agent/api"
	"ztm/apps"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	signed "ztm/tunnel/identity/policy"
	"ztm/tunnel/unixtime"
)

// The devices of the properties: one that has a label, one that has a name alone, one that the policy
// does not know.
var devices = []identity.ID{"abcdefghijklmnopqrstuvwxyzabcdea", "abcdefghijklmnopqrstuvwxyzabcdeb", "abcdefghijklmnopqrstuvwxyzabcdec"}

// somePolicy makes a policy at random, with ends around a time.
func somePolicy(r *rand.Rand, now unixtime.Seconds) func(*signed.Source) error {
	pick := func(all ...string) string { return all[r.IntN(len(all))] }
	end := func() unixtime.Seconds {
		return []unixtime.Seconds{0, now - unixtime.Seconds(60*(1+r.IntN(5))), now + 3600}[r.IntN(3)]
	}
	return func(s *signed.Source) error {
		*s = *empty()
		s.Mode = pick(signed.Enforce, signed.Enforce, signed.Observe)
		for _, u := range []string{"ann", "bob", "carol"} {
			s.Users[u] = signed.User{Until: []unixtime.Seconds{0, 0, end()}[r.IntN(3)]}
		}
		s.Endpoints["till"], s.Endpoints["desk"] = signed.Endpoint{ID: devices[0], Labels: []string{"kind=till"}}, signed.Endpoint{ID: devices[1]}
		s.Groups["ops"] = signed.Group{Members: []signed.Member{{User: pick("ann", "bob"), Added: 1, Until: end()}, {User: "carol", Added: 1, Until: end()}}}
		for i := range r.IntN(7) {
			w := signed.Who{Name: pick("*", "ann", "bob", "group:ops")}
			if apps.IsUser(w.Name) {
				w.Added = 1
			}
			s.Grants = append(s.Grants, signed.Grant{Name: fmt.Sprint("secret", i), Who: []signed.Who{w}, To: []string{pick("tunnel", "tunnel/tcp/db", "tunnel/tcp/web")},
				At: []string{"*"}, From: []string{pick("*", "*", "label:kind=till", "desk")}, Until: end()})
		}
		return nil
	}
}

// inForce has an endpoint decide by policies and rules at random.
func inForce(t *testing.T, property func(t *testing.T, office *node, rule []string)) {
	t.Helper()
	bubble(t, func(t *testing.T, m *mesh) {
		root, office := m.join("root", "root"), m.join("office", "alice")
		var rule []string
		office.App = func(string) any { return ruled(func(string) []string { return rule }) }
		office.Apps = func() []string { return []string{"tunnel"} }
		for seed := range uint64(250) {
			r := rand.New(rand.NewPCG(seed, 5))
			rule = nil
			for range r.IntN(3) {
				rule = append(rule, []string{"ann", "bob", "group:ops", "label:kind=till", "*", "@policy"}[r.IntN(6)])
			}
			version := root.propose(somePolicy(r, unixtime.Of(time.Now())))
			eventually(t, "it is in force, with what the rule names", func() bool {
				office.Names(apps.Peer{User: "nobody"}, rule)
				s := office.status()
				return s.InForce && s.Version == version && len(s.Unknown) == 0
			})
			if property(t, office, rule); t.Failed() {
				t.Fatalf("seed %d: rule %q, grants %+v", seed, rule, office.grants())
			}
		}
	})
}

func TestWhoCanIsExactlyWhomAnEndpointLetsIn(t *testing.T) {
	inForce(t, func(t *testing.T, office *node, rule []string) {
		out, err := office.whoCan(t.Context(), "tunnel/tcp/db", "")
		if err != nil {
			t.Fatal(err)
		}
		row := func(user string) (allow, somewhere bool) {
			i := slices.IndexFunc(out.Rows, func(a api.Access) bool { return a.User == user })
			if ended := office.Ends(user); i < 0 && !ended.IsZero() && !ended.After(time.Now()) {
				return false, false // of whom everybody's row does not speak
			}
			if i < 0 {
				i = slices.IndexFunc(out.Rows, func(a api.Access) bool { return a.User == "*" })
			}
			return i >= 0 && out.Rows[i].Allow && out.Rows[i].From == "", i >= 0 && out.Rows[i].Allow
		}
		for _, user := range []string{"ann", "bob", "carol", "nobody"} {
			let := map[identity.ID]bool{}
			any := false
			for _, id := range devices {
				p := apps.Peer{User: user, ID: id}
				let[id] = office.Names(p, rule) && office.Permit(p, "tunnel", "tcp/db", "") == nil
				any = any || let[id]
			}
			everywhere, somewhere := row(user)
			if everywhere != let[devices[2]] || any && !somewhere {
				t.Errorf("%s is let in from %v, and listed as %v, %v: %+v", user, let, everywhere, somewhere, out.Rows)
			}
		}
	})
}

func TestTheWordsOfARefusalDependOnThePeersOwnRightsAlone(t *testing.T) {
	self := apps.Endpoint{Name: "office", User: "alice"}
	inForce(t, func(t *testing.T, office *node, _ []string) {
		source := office.m.source(t)
		for _, user := range []string{"ann", "bob", "carol", "nobody"} {
			for _, id := range devices {
				p := apps.Peer{User: user, ID: id}
				err := office.Permit(p, "tunnel", "tcp/db", "")
				if err == nil {
					continue
				}
				got := apps.Refusal(self, p, "7f3a19", err)
				want := "not allowed (ref 7f3a19): ask the owner of office"
				if end := former(source, p, office.now()); end != 0 {
					what := "tunnel tcp/db"
					want = fmt.Sprintf("your access to %s at office ended %s (ref 7f3a19): ask its owner", what, unixtime.Text(end.Time()))
				}
				if got.Message != want || got.Code != answer.Denied {
					t.Errorf("%s from %s reads %q, want %q", user, id, got.Message, want)
				}
			}
		}
	})
}

// source is the policy as a holder of the CA key has it.
func (m *mesh) source(t *testing.T) *signed.Source {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, n := range m.nodes {
		if n.signs {
			s, _, err := n.Source()
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
	}
	return nil
}

// former returns when the last of the rights of a peer to tunnel/tcp/db ended, 0 if it never had one.
func former(s *signed.Source, p apps.Peer, now unixtime.Seconds) (last unixtime.Seconds) {
	until := func(a, b unixtime.Seconds) unixtime.Seconds {
		if a == 0 || b != 0 && b < a {
			return b
		}
		return a
	}
	user := s.Users[p.User].Until
	if user != 0 && user <= now {
		return user
	}
	for _, g := range s.Grants {
		from := g.From[0] == "*" || g.From[0] == "desk" && p.ID == devices[1] || strings.HasPrefix(g.From[0], "label:") && p.ID == devices[0]
		if g.To[0] == "tunnel/tcp/web" || !from {
			continue
		}
		end, means := until(user, g.Until), g.Who[0].Name == "*" || g.Who[0].Name == p.User
		for _, m := range s.Groups[strings.TrimPrefix(g.Who[0].Name, "group:")].Members {
			if m.User == p.User {
				end, means = until(end, m.Until), true
			}
		}
		if means {
			last = max(last, end)
		}
	}
	return last
}
