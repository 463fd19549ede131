package file

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	decide "ztm/agent/policy"
	"ztm/apps"
	"ztm/tunnel/identity"
	"ztm/tunnel/identity/policy"
	"ztm/tunnel/unixtime"
)

func idOf(n int) identity.ID {
	return identity.ID(fmt.Sprintf("abcdefghijklmnopqrstuvwxyzabcde%c", 'a'+n))
}

// before is a policy of groups and labels, and endpoints with rules at random.
func before(r *rand.Rand) (*policy.Source, []Owned) {
	s := &policy.Source{Users: map[string]policy.User{"carol": {Until: unixtime.Seconds(1 + r.Int64N(100))}}, Endpoints: map[string]policy.Endpoint{}, Grants: []policy.Grant{},
		Groups: map[string]policy.Group{"ops": {Members: []policy.Member{{User: "ann", Added: 1, Until: unixtime.Seconds(r.IntN(2) * (1 + r.IntN(100)))}}}}}
	terms := []string{"ann", "bob", "carol", "group:ops", "group:unknown", "label:till", "label:till+x", "*", "@policy"}
	var all []Owned
	for i := range 4 {
		e := Owned{Name: fmt.Sprint("ep", i), ID: idOf(i), Rules: map[string][]string{}}
		if r.IntN(2) == 0 {
			s.Endpoints["pinned-"+e.Name] = policy.Endpoint{ID: e.ID, Labels: [][]string{{}, {"till"}, {"till", "x"}}[r.IntN(3)]}
		}
		for _, to := range []string{"tunnel/tcp/db", "tunnel/tcp/web", "tunnel/forward/*", "terminal", "proxy", "file/read"} {
			for range r.IntN(3) {
				e.Rules[to] = append(e.Rules[to], terms[r.IntN(len(terms))])
			}
		}
		all = append(all, e)
	}
	return s, all
}

// questions are what is asked of an endpoint, by the rule that is for it.
var questions = map[string][2]string{"tunnel/tcp/db": {"tunnel", "tcp/db"}, "tunnel/tcp/web": {"tunnel", "tcp/web"}, "tunnel/forward/*": {"tunnel", "forward/a:1"},
	"terminal": {"terminal", "shell"}, "proxy": {"proxy", "a:1"}, "file/read": {"file", "read"}}

// reached lists what anybody reaches at an endpoint by its rules and a policy.
func reached(s *policy.Source, e Owned, rules map[string][]string, now unixtime.Seconds) (out []string) {
	r := decide.Compile(s.Slice(&policy.Signed{}, e.ID, slices.Concat(slices.Collect(maps.Values(rules))...)), func(string, unixtime.Seconds) bool { return false })
	for to, q := range questions {
		for _, user := range []string{"ann", "bob", "carol", "dora"} {
			for from := range 5 {
				p := apps.Peer{User: user, ID: idOf(from)}
				if r.Names(p, rules[to], now) && r.Decide(p, q[0], q[1], now).Allow {
					out = append(out, fmt.Sprint(user, " from ", from, " to ", to))
				}
			}
		}
	}
	slices.Sort(out)
	return out
}

func TestWithAnAdoptedPolicyEverybodyReachesWhatTheyDidByRulesAlone(t *testing.T) {
	for seed := range uint64(400) {
		r := rand.New(rand.NewPCG(seed, 3))
		s, all := before(r)
		asked := 1 + r.IntN(len(all))
		first, _, err := Adopt(s, all[:asked])
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		later, _, err := Adopt(first, all[asked:])
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		now := unixtime.Seconds(1 + r.Int64N(110))
		for i, e := range all {
			want := reached(s, e, e.Rules, now)
			same := func(what string, p *policy.Source, rules map[string][]string) {
				if got := reached(p, e, rules, now); !slices.Equal(got, want) {
					t.Fatalf("seed %d, %s: at %s they reach\n%v, and before\n%v", seed, what, e.Name, got, want)
				}
			}
			if i < asked {
				same("adopted", first, e.Rules)
			} else if got := reached(first, e, e.Rules, now); len(got) > 0 {
				t.Fatalf("seed %d: at %s, which was not asked, they reach\n%v", seed, e.Name, got)
			}
			same("adopted later", later, e.Rules)
			left := maps.Clone(e.Rules) // to the policy
			for to := range left {
				left[to] = []string{apps.ByPolicy}
			}
			same("adopted, and left to the policy", later, left)
		}
	}
}

func TestAnAdoptedPolicyIsAFileWithFewGrants(t *testing.T) {
	var all []Owned
	for i := range 20 {
		all = append(all, Owned{Name: fmt.Sprint("ep", i), ID: idOf(i), Rules: map[string][]string{"tunnel/tcp/db": {"bob", "ann"}, "terminal": {"ann", "bob"}}})
	}
	next, left, err := Adopt(&policy.Source{Users: map[string]policy.User{}, Groups: map[string]policy.Group{}, Endpoints: map[string]policy.Endpoint{}, Grants: []policy.Grant{}}, all)
	if err != nil || len(left) != 0 {
		t.Fatal(left, err)
	}
	if len(next.Grants) != 1 || next.Grants[0].Name != "rules-1" || len(next.Grants[0].At) != 20 {
		t.Errorf("grants %+v", next.Grants)
	}
	more, _, err := Adopt(next, []Owned{{Name: "nas", ID: idOf(25), Rules: map[string][]string{"terminal": {"eve"}}}})
	if err != nil || len(more.Grants) != 2 || more.Grants[1].Name != "rules-2" {
		t.Errorf("with one more endpoint: %+v, %v", more, err)
	}
	b, err := Write(more, 7)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Read(b); err != nil {
		t.Errorf("it cannot be read: %v\n%s", err, b)
	}
}

func TestWhatAnEndpointSaysOfItsRulesGivesNothingElsewhere(t *testing.T) {
	s, all := before(rand.New(rand.NewPCG(1, 1)))
	all = []Owned{all[0], {Name: "bad", ID: idOf(9), Rules: map[string][]string{
		"terminal file": {"eve"}, "": {"eve"}, "tunnel/tcp/db*": {"eve"}, "tunnel": {"eve at ep0", "group:", "\x1b[2J", ""}, "proxy": {"eve"}, strings.Repeat("x", 700): {"eve"},
	}}}
	next, left, err := Adopt(s, all)
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range next.Grants {
		about := slices.ContainsFunc(g.Who, func(w policy.Who) bool { return w.Name == "eve" }) || slices.Contains(g.At, "bad")
		if about && (!slices.Equal(g.At, []string{"bad"}) || !slices.Equal(g.To, []string{"proxy"})) {
			t.Errorf("a grant of what it said: %+v", g)
		}
	}
	if len(left) < 8 {
		t.Errorf("what was left out: %q", left)
	}
	if _, _, err := Adopt(s, []Owned{{Name: "x", ID: idOf(7)}, {Name: "x", ID: idOf(8)}}); err == nil {
		t.Error("two devices with one name are one endpoint")
	}
}
