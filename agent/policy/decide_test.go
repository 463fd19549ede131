package policy

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"ztm/apps"
	"ztm/apps/appstest"
	"ztm/tunnel/identity"
	"ztm/tunnel/identity/policy"
	"ztm/tunnel/unixtime"
)

// The properties are held against a second implementation, which knows the source alone: no slice,
// no index, one loop over all grants.

// naive is what a source gives a peer at an endpoint, and until when.
func naive(s *policy.Source, at string, p apps.Peer, app, target string, now unixtime.Seconds, voids func(string, unixtime.Seconds) bool) (allow bool, until unixtime.Seconds) {
	for _, g := range s.Grants {
		ends := []unixtime.Seconds{g.Until, s.Users[p.User].Until}
		if !anyPlace(s, g.At, s.Endpoints[at].ID) || !anyPlace(s, g.From, p.ID) || !anyTarget(g.To, app, target) {
			continue
		}
		for _, w := range g.Who {
			member, end := naiveWho(s, w, p.User, voids)
			if !member {
				continue
			}
			last := unixtime.Seconds(0)
			for _, e := range append(ends, end) {
				if e != 0 && (last == 0 || e < last) {
					last = e
				}
			}
			if last != 0 && now >= last {
				continue
			}
			if !allow || until != 0 && (last == 0 || last > until) {
				until = last
			}
			allow = true
		}
	}
	return allow, until
}

func naiveWho(s *policy.Source, w policy.Who, user string, voids func(string, unixtime.Seconds) bool) (bool, unixtime.Seconds) {
	if w.Name == "*" {
		return true, 0
	}
	if w.Name == user {
		return !voids(user, w.Added), 0
	}
	for _, m := range s.Groups[strings.TrimPrefix(w.Name, "group:")].Members {
		if strings.HasPrefix(w.Name, "group:") && m.User == user && !voids(user, m.Added) {
			return true, m.Until
		}
	}
	return false, 0
}

func anyPlace(s *policy.Source, terms []string, id identity.ID) bool {
	for _, t := range terms {
		if t == "*" {
			return true
		}
		for name, e := range s.Endpoints {
			if e.ID != id {
				continue
			}
			wanted := strings.Split(strings.TrimPrefix(t, "label:"), "+")
			has := 0
			for _, l := range wanted {
				if slices.Contains(e.Labels, l) {
					has++
				}
			}
			if t == name || strings.HasPrefix(t, "label:") && has == len(wanted) {
				return true
			}
		}
	}
	return false
}

func anyTarget(to []string, app, target string) bool {
	for _, t := range to {
		whole := app + "/" + target
		switch {
		case t == app, t == whole, strings.HasSuffix(t, "/*") && strings.HasPrefix(whole, strings.TrimSuffix(t, "*")):
			return true
		case target == "" && strings.HasPrefix(t, app+"/"):
			return true
		case t == "proxy/*.demo:443" && app == "proxy" && strings.HasSuffix(target, ".demo:443"):
			return true
		}
	}
	return false
}

func idOf(n int) identity.ID {
	return identity.ID(fmt.Sprintf("abcdefghijklmnopqrstuvwxyz%c%c2345", 'a'+n/26, 'a'+n%26))
}

func pick[T any](r *rand.Rand, all []T) T { return all[r.IntN(len(all))] }

func some[T any](r *rand.Rand, all []T) []T {
	out := []T{pick(r, all)}
	for r.IntN(3) == 0 {
		out = append(out, pick(r, all))
	}
	return out
}

var (
	theUsers   = []string{"ann", "bob", "carol", "a.b", "axb"}
	theTargets = []string{"tunnel/tcp/ssh", "tunnel/tcp/db", "tunnel", "tunnel/udp/*", "terminal", "terminal/*", "tunnel/forward/*", "file/read", "proxy/*.demo:443"}
	asked      = [][2]string{{"tunnel", "tcp/ssh"}, {"tunnel", "tcp/db"}, {"tunnel", "udp/dns"}, {"tunnel", ""}, {"terminal", "shell"},
		{"file", "read"}, {"file", "write"}, {"proxy", "a.demo:443"}, {"proxy", "a.demo:80"}, {"proxy", "xdemo:443"}, {"proxy", ""}, {"term", "inal"}, {"tunnel", "forward/a:1"}, {"", ""}}
)

// someSource makes a source that Check accepts.
func someSource(r *rand.Rand) *policy.Source {
	s := &policy.Source{Mode: policy.Enforce, Users: map[string]policy.User{}, Groups: map[string]policy.Group{},
		Endpoints: map[string]policy.Endpoint{}, Grants: []policy.Grant{}}
	end := func() unixtime.Seconds {
		if r.IntN(2) == 0 {
			return 0
		}
		return unixtime.Seconds(1 + r.Int64N(100))
	}
	for _, u := range theUsers {
		s.Users[u] = policy.User{Until: end()}
	}
	for i := range 4 {
		labels := []string{}
		for _, l := range []string{"x", "y", "k=1"} {
			if r.IntN(2) == 0 {
				labels = append(labels, l)
			}
		}
		s.Endpoints[fmt.Sprint("ep", i)] = policy.Endpoint{ID: idOf(i), Labels: labels}
	}
	for i := range 3 {
		g := policy.Group{Members: []policy.Member{}}
		for _, u := range theUsers {
			if r.IntN(2) == 0 {
				g.Members = append(g.Members, policy.Member{User: u, Added: unixtime.Seconds(1 + r.Int64N(100)), Until: end()})
			}
		}
		s.Groups[fmt.Sprint("g", i)] = g
	}
	places := []string{"*", "ep0", "ep1", "ep2", "label:x", "label:x+y", "label:k=1"}
	for i := range r.IntN(6) {
		g := policy.Grant{Name: fmt.Sprint("grant", i), To: some(r, theTargets), At: some(r, places), From: some(r, places), Until: end()}
		for _, w := range some(r, []string{"*", "ann", "bob", "carol", "a.b", "group:g0", "group:g1", "group:g2"}) {
			who := policy.Who{Name: w}
			if apps.IsUser(w) {
				who.Added = unixtime.Seconds(1 + r.Int64N(100))
			}
			g.Who = append(g.Who, who)
		}
		s.Grants = append(s.Grants, g)
	}
	return s
}

// somebody is a peer of an endpoint that is pinned, or of one that is not.
func somebody(r *rand.Rand) apps.Peer {
	return apps.Peer{User: pick(r, append(theUsers, "nobody", "")), ID: idOf(r.IntN(6))}
}

// at compiles the slice of an endpoint.
func at(s *policy.Source, n int, voids func(string, unixtime.Seconds) bool) *Rights {
	return Compile(s.Slice(&policy.Signed{}, idOf(n), nil), voids)
}

func nothing(string, unixtime.Seconds) bool { return false }

func carol50(user string, added unixtime.Seconds) bool { return user == "carol" && added <= 50 }

// random calls a property with many policies, endpoints and questions.
func random(t *testing.T, property func(t *testing.T, r *rand.Rand, s *policy.Source, ep int, p apps.Peer, q [2]string, now unixtime.Seconds)) {
	t.Helper()
	for seed := range uint64(3000) {
		r := rand.New(rand.NewPCG(seed, 1))
		s := someSource(r)
		if err := s.Check(); err != nil {
			t.Fatal(err)
		}
		for range 10 {
			property(t, r, s, r.IntN(4), somebody(r), pick(r, asked), unixtime.Seconds(r.Int64N(110)))
			if t.Failed() {
				t.Fatalf("seed %d", seed)
			}
		}
	}
}

func TestAnEndpointDecidesByItsSliceAsTheSourceSays(t *testing.T) {
	random(t, func(t *testing.T, r *rand.Rand, s *policy.Source, ep int, p apps.Peer, q [2]string, now unixtime.Seconds) {
		want, until := false, unixtime.Seconds(0)
		if p.User != "" {
			want, until = naive(s, fmt.Sprint("ep", ep), p, q[0], q[1], now, carol50)
		}
		got := at(s, ep, carol50).Decide(p, q[0], q[1], now)
		if got.Allow != want || want && got.Until != until {
			t.Errorf("%+v may have %v at ep%d at %d: %+v, by the source %v until %d", p, q, ep, now, got, want, until)
		}
	})
}

func TestMoreOfAPolicyNeverTakesAwayAndLessNeverGives(t *testing.T) {
	appstest.Long(t)
	random(t, func(t *testing.T, r *rand.Rand, s *policy.Source, ep int, p apps.Peer, q [2]string, now unixtime.Seconds) {
		before := at(s, ep, nothing).Decide(p, q[0], q[1], now).Allow
		more := *s
		extra := someSource(r)
		switch r.IntN(3) {
		case 0:
			more.Grants = append(slices.Clone(s.Grants), extra.Grants...)
		case 1:
			more.Grants = slices.Clone(s.Grants)
			for i := range more.Grants {
				more.Grants[i].Until = 0
			}
		case 2:
			more.Users = map[string]policy.User{}
		}
		after := at(&more, ep, nothing).Decide(p, q[0], q[1], now).Allow
		if before && !after {
			t.Errorf("%+v had %v, and has it no more after something was added", p, q)
		}
		if evicted := at(s, ep, carol50).Decide(p, q[0], q[1], now).Allow; evicted && !before {
			t.Errorf("%+v has %v because of an eviction", p, q)
		}
		if later := at(s, ep, nothing).Decide(p, q[0], q[1], now+1).Allow; later && !before {
			t.Errorf("%+v has %v because time went on", p, q)
		}
	})
}

func TestOrderAndRepetitionOfListsDoNotMatter(t *testing.T) {
	appstest.Long(t)
	random(t, func(t *testing.T, r *rand.Rand, s *policy.Source, ep int, p apps.Peer, q [2]string, now unixtime.Seconds) {
		before := at(s, ep, carol50).Decide(p, q[0], q[1], now)
		other := *s
		other.Grants = slices.Clone(s.Grants)
		for i := range other.Grants {
			g := &other.Grants[i]
			g.Who, g.To = append(slices.Clone(g.Who), g.Who...), append(slices.Clone(g.To), g.To...)
			slices.Reverse(g.Who)
			slices.Reverse(g.To)
		}
		slices.Reverse(other.Grants)
		if after := at(&other, ep, carol50).Decide(p, q[0], q[1], now); after.Allow != before.Allow || after.Until != before.Until {
			t.Errorf("%+v, and in another order %+v", before, after)
		}
	})
}

func TestARuleMeansWhomItsTermsMean(t *testing.T) {
	r := Compile(&policy.Slice{
		Mode:   policy.Enforce,
		Groups: map[string]policy.Group{"ops": {Members: []policy.Member{{User: "bob", Added: 10, Until: 100}, {User: "carol", Added: 10}}}},
		Places: map[string][]identity.ID{"label:till": {idOf(1)}}, Ends: policy.EndsOf(map[string]unixtime.Seconds{"dora": 100}),
	}, carol50)
	for _, c := range []struct {
		user string
		id   int
		who  string
		now  unixtime.Seconds
		want bool
	}{
		{"ann", 0, "ann", 1, true}, {"ann", 0, "bob", 1, false}, {"ann", 0, "*", 1, true}, {"", 0, "*", 1, false}, {"axb", 0, "a.b", 1, false},
		{"bob", 0, "group:ops", 99, true}, {"bob", 0, "group:ops", 100, false}, {"ann", 0, "group:ops", 1, false}, {"ops", 0, "group:ops", 1, false},
		{"carol", 0, "group:ops", 1, false}, // evicted since, and invited again
		{"dora", 0, "dora", 99, true}, {"dora", 0, "dora", 100, false}, {"dora", 0, "*", 100, false},
		{"ann", 1, "label:till", 1, true}, {"ann", 0, "label:till", 1, false}, {"ann", 1, "label:other", 1, false},
		{"ann", 0, apps.ByPolicy, 1, true},
	} {
		p := apps.Peer{User: c.user, ID: idOf(c.id)}
		if got := r.Names(p, []string{c.who}, c.now); got != c.want {
			t.Errorf("%s means %s at %d: %v", c.who, c.user, c.now, got)
		}
		if plain := c.who == c.user || c.who == "*" && c.user != ""; (*Rights)(nil).Names(p, []string{c.who}, c.now) != plain {
			t.Errorf("without a policy %s does not mean the same", c.who)
		}
		if r.Stale().Names(p, []string{c.who}, c.now) && !apps.IsUser(c.who) && c.who != "*" {
			t.Errorf("%s means somebody though the policy may have changed", c.who)
		}
	}
	if !r.Knows("group:ops") || !r.Knows("label:till") || !r.Knows("ann") || r.Knows("group:no") || r.Knows("label:no") || (*Rights)(nil).Knows("group:ops") {
		t.Error("it is not known what the policy has")
	}
	if r.IsStale() || !r.Stale().IsStale() || (*Rights)(nil).Stale().IsStale() {
		t.Error("it is not known which rights may be old")
	}
	if Compile(&policy.Slice{Mode: policy.Observe}, nothing).Names(apps.Peer{User: "ann"}, []string{apps.ByPolicy}, 1) {
		t.Error("a rule leaves it to the policy, which enforces nothing, and means somebody")
	}
	if r.Next(1) != 100 || r.Next(100) != 0 {
		t.Errorf("the next ends are %d and %d", r.Next(1), r.Next(100))
	}
}

func TestWithoutAPolicyAllIsLeftToTheOwnersAndWithAnEmptyOneNothingIs(t *testing.T) {
	p := apps.Peer{User: "bob"}
	if d := (*Rights)(nil).Decide(p, "terminal", "shell", 1); !d.Allow || d.Reason != NoPolicy {
		t.Errorf("no policy: %+v", d)
	}
	for mode, want := range map[string]Decision{
		policy.GroupsOnly: {Allow: true, Reason: NoPolicy}, policy.Observe: {Allow: true, Reason: WouldRefuse}, policy.Enforce: {Reason: NoGrant},
	} {
		if d := Compile(&policy.Slice{Mode: mode}, nothing).Decide(p, "terminal", "shell", 1); d != want {
			t.Errorf("an empty policy of mode %q: %+v", mode, d)
		}
	}
	for _, mode := range []string{policy.GroupsOnly, policy.Observe, policy.Enforce} {
		r := Compile(&policy.Slice{Mode: mode, Ends: policy.EndsOf(map[string]unixtime.Seconds{"bob": 100})}, nothing)
		if d := r.Decide(p, "terminal", "shell", 100); d.Allow || d.Reason != Ended || r.End("bob") != 100 || r.End("ann") != 0 {
			t.Errorf("whose access has ended, in mode %q: %+v", mode, d)
		}
	}
	if d := Compile(&policy.Slice{Mode: policy.Enforce}, nothing).Stale().Decide(p, "terminal", "shell", 1); d.Allow || d.Reason != StalePolicy {
		t.Errorf("a policy that may be old: %+v", d)
	}
}

// large is a mesh of 10,000 users, whose access ends, 1,000 groups of 50 and 10,000 grants, all of them
// at one endpoint.
func large() *policy.Slice {
	s := &policy.Slice{Mode: policy.Enforce, Groups: map[string]policy.Group{}}
	ends := map[string]unixtime.Seconds{}
	for i := range 10_000 {
		ends[fmt.Sprint("user", i)] = unixtime.Seconds(1000 + i)
	}
	s.Ends = policy.EndsOf(ends)
	for i := range 1000 {
		g := policy.Group{}
		for j := range 50 {
			g.Members = append(g.Members, policy.Member{User: fmt.Sprint("user", (i*50+j)%10000), Added: 1})
		}
		s.Groups[fmt.Sprint("group", i)] = g
		for j := range 10 {
			s.Grants = append(s.Grants, policy.Given{Name: fmt.Sprint("grant", i*10+j), Who: []policy.Who{{Name: fmt.Sprint("group:group", i)}},
				To: []string{fmt.Sprint("tunnel/tcp/t", i*10+j)}, From: []string{"*"}})
		}
	}
	return s
}

// inAllGroups is the longest decision: bob is in 1,000 groups, and each has had a grant for the target.
func inAllGroups() *Rights {
	s := &policy.Slice{Mode: policy.Enforce, Groups: map[string]policy.Group{}, Ends: large().Ends}
	for i := range 1000 {
		s.Groups[fmt.Sprint("group", i)] = policy.Group{Members: []policy.Member{{User: "bob", Added: 1}}}
		s.Grants = append(s.Grants, policy.Given{Name: fmt.Sprint("grant", i), Who: []policy.Who{{Name: fmt.Sprint("group:group", i)}},
			To: []string{"tunnel/tcp/t0"}, From: []string{"*"}, Until: 5})
	}
	return Compile(s, nothing)
}

func BenchmarkDecide(b *testing.B) {
	r := Compile(large(), nothing)
	worst := inAllGroups()
	for _, c := range []struct {
		name string
		r    *Rights
		p    apps.Peer
		want bool
	}{{"granted", r, apps.Peer{User: "user7"}, true}, {"refused", r, apps.Peer{User: "user9000"}, false}, {"unknown", r, apps.Peer{User: "x"}, false},
		{"in all groups, all ended", worst, apps.Peer{User: "bob"}, false}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if c.r.Decide(c.p, "tunnel", "tcp/t0", 10).Allow != c.want {
					b.Fatal("decided otherwise")
				}
			}
		})
	}
}

func TestADecisionTakesNoMemory(t *testing.T) {
	r, worst := Compile(large(), nothing), inAllGroups()
	ranges := Compile(&policy.Slice{Mode: policy.Enforce, Grants: []policy.Given{{Name: "demo", Who: []policy.Who{{Name: "bob", Added: 1}},
		To: []string{"proxy/*.demo:443", "proxy/10.0.0.0/8", "tunnel/udp/*"}, From: []string{"*"}}}}, nothing)
	for _, c := range []struct {
		r               *Rights
		user, app, name string
		want            bool
	}{{r, "user7", "tunnel", "tcp/t0", true}, {worst, "bob", "tunnel", "tcp/t0", false},
		{ranges, "bob", "proxy", "10.1.2.3:22", true}, {ranges, "bob", "tunnel", "udp/dns", true}, {ranges, "bob", "proxy", "11.1.2.3:22", false}} {
		allow := false
		if n := testing.AllocsPerRun(100, func() { allow = c.r.Decide(apps.Peer{User: c.user}, c.app, c.name, 10).Allow }); n != 0 || allow != c.want {
			t.Errorf("%s at %s %s: %v, with %v allocations", c.user, c.app, c.name, allow, n)
		}
	}
}

func TestOfManyGrantsTheOneThatLastsLongestIsToldWhomeverItMeans(t *testing.T) {
	grant := func(name, who string, until unixtime.Seconds) policy.Given {
		return policy.Given{Name: name, Who: []policy.Who{{Name: who}}, To: []string{"terminal"}, From: []string{"*"}, Until: until}
	}
	s := &policy.Slice{Mode: policy.Enforce,
		Groups: map[string]policy.Group{"a": {Members: []policy.Member{{User: "bob", Added: 1, Until: 60}}}, "b": {Members: []policy.Member{{User: "bob", Added: 1}}}},
		Grants: []policy.Given{grant("one", "group:a", 90), grant("two", "group:a", 0), grant("three", "group:b", 50), grant("four", "group:b", 40)}}
	r := Compile(s, nothing)
	for _, c := range []struct {
		now  unixtime.Seconds
		want Decision
	}{
		{1, Decision{true, "two", 60, Granted}}, {59, Decision{true, "two", 60, Granted}}, {60, Decision{false, "two", 60, Ended}},
	} {
		if d := r.Decide(apps.Peer{User: "bob"}, "terminal", "shell", c.now); d != c.want {
			t.Errorf("at %d: %+v, want %+v", c.now, d, c.want)
		}
	}
}

func TestATargetThatNothingAsksForIsRefused(t *testing.T) {
	for to, ok := range map[string]bool{
		"tunnel": true, "tunnel/*": true, "tunnel/tcp/*": true, "tunnel/tcp/db": true, "proxy/*.demo:443": true, "proxy/*": true, "proxy/10.0.0.0/8:*": true,
		"tunnel/forward/*": true, "tunnel/forward/127.0.0.0/8:22": true, "file/read": true,
		"tunnel/tcp/db*": false, "tunnel/*/db": false, "terminal/*x": false, "proxy/a*b": false, "tunnel/forward/10.0.0.0/99": false,
	} {
		if err := CheckTarget(to); (err == nil) != ok {
			t.Errorf("%s: %v", to, err)
		}
	}
}

func TestATargetIsNotSearchedFurtherThanAnyGrantIsDeep(t *testing.T) {
	r := Compile(&policy.Slice{Mode: policy.Enforce, Grants: []policy.Given{{Name: "deep", Who: []policy.Who{{Name: "bob", Added: 1}},
		To: []string{"script/a/b/*", "script/a/*"}, From: []string{"*"}}}}, nothing)
	if r.deep != len("a/b") {
		t.Errorf("the longest name is of %d bytes", r.deep)
	}
	for name, want := range map[string]bool{"a/b/": true, "a/b/c": true, "a/b/c/d/e": true, "a/c": true, "a": false, "b/a/b/c": false} {
		if d := r.Decide(apps.Peer{User: "bob"}, "script", name, 10); d.Allow != want {
			t.Errorf("%s: %+v", name, d)
		}
	}
}

func TestUsersAreAllThatAPolicyMayMean(t *testing.T) {
	random(t, func(t *testing.T, r *rand.Rand, s *policy.Source, ep int, p apps.Peer, q [2]string, now unixtime.Seconds) {
		c := at(s, ep, nothing)
		anybody := slices.ContainsFunc(s.Grants, func(g policy.Grant) bool {
			return slices.ContainsFunc(g.Who, func(w policy.Who) bool { return w.Name == "*" })
		})
		if !anybody && c.Decide(p, q[0], q[1], now).Allow && !slices.Contains(c.Users(), p.User) {
			t.Errorf("%s is let in and not among %v", p.User, c.Users())
		}
	})
}

func TestARuleLastsAsLongAsTheLongestOfItsTermsAndTheUser(t *testing.T) {
	member := func(until unixtime.Seconds) policy.Group {
		return policy.Group{Members: []policy.Member{{User: "bob", Added: 1, Until: until}, {User: "carol", Added: 1, Until: until}}}
	}
	r := Compile(&policy.Slice{Mode: policy.Enforce, Groups: map[string]policy.Group{"early": member(20), "late": member(30), "past": member(5), "good": member(0)},
		Ends: policy.EndsOf(map[string]unixtime.Seconds{"carol": 25})}, nothing)
	for _, c := range []struct {
		user string
		who  []string
		want unixtime.Seconds
	}{
		{"bob", []string{"group:early"}, 20}, {"bob", []string{"group:late", "group:early"}, 30}, {"bob", []string{"group:past", "group:early"}, 20},
		{"bob", []string{"group:early", "group:good"}, 0}, {"bob", []string{"group:early", "bob"}, 0}, {"bob", []string{"*"}, 0}, {"bob", nil, 0},
		{"carol", []string{"group:early"}, 20}, {"carol", []string{"group:late"}, 25}, {"carol", []string{"carol"}, 25},
	} {
		if got := r.Until(apps.Peer{User: c.user}, c.who, 10); got != c.want {
			t.Errorf("%s by %q: %d, want %d", c.user, c.who, got, c.want)
		}
	}
	if got := (*Rights)(nil).Until(apps.Peer{User: "bob"}, []string{"bob"}, 10); got != 0 {
		t.Errorf("without a policy: %d", got)
	}
}
