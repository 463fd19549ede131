package keep

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ztm/agent/api"
	"ztm/agent/policy"
	"ztm/apps"
	"ztm/apps/appstest"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	"ztm/tunnel/identity/identitytest"
	signed "ztm/tunnel/identity/policy"
	"ztm/tunnel/inflight"
	"ztm/tunnel/limit"
	"ztm/tunnel/unixtime"
)

// mesh is keepers that ask each other without a network.
type mesh struct {
	t     *testing.T
	ca    *identity.CA
	trust *identity.Trust

	mu    sync.Mutex
	nodes map[identity.ID]*node // guarded by mu
}

// node is one endpoint.
type node struct {
	*Keeper
	m      *mesh
	peer   identity.Subject
	signs  bool
	online bool // guarded by m.mu
	silent bool // it takes questions and does not answer; guarded by m.mu
	judged int  // guarded by m.mu
	asks   int  // what it has asked others for; guarded by m.mu

	announced []string
	first     []byte                // the head that its permit had
	disk      atomic.Pointer[error] // what saving comes to; nil: it works
	stop      func()
}

func newMesh(t *testing.T) *mesh {
	t.Helper()
	m := identitytest.New(t, time.Now())
	return &mesh{t: t, ca: m.CA, trust: m.Trust, nodes: map[identity.ID]*node{}}
}

// ruled is an app whose rule for something is what the function says.
type ruled func(name string) []string

func (r ruled) Rule(name string) ([]string, error) { return r(name), nil }

// failing is a state that fails when it is told to.
type failing struct {
	apps.State
	n *node
}

func (f failing) broken() error {
	if err := f.n.disk.Load(); err != nil {
		return *err
	}
	return nil
}

func (f failing) Save(key string, v any) error {
	return errors.Join(f.broken(), f.State.Save(key, v))
}

func (f failing) SaveAll(values map[string]any) error {
	if err := f.broken(); err != nil {
		return err
	}
	return f.State.SaveAll(values)
}

// state is the state of an app of an endpoint.
func state(name, user string) (s apps.State) {
	new(appstest.Net).Join(name, user).New("policy", func(h apps.Host) apps.App { s = h.State; return nil })
	return s
}

// join adds an endpoint, which holds the CA key if it is of root.
func (m *mesh) join(name, user string) *node { return m.joinWith(name, user, nil) }

// joinWith is join with a permit that has a head.
func (m *mesh) joinWith(name, user string, first []byte) *node {
	m.t.Helper()
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte(name[:1]), ed25519.SeedSize))
	n := &node{m: m, first: first, signs: user == "root", online: true, peer: identity.Subject{Role: identity.RoleMember, User: user, ID: identity.IDOf(key.Public().(ed25519.PublicKey))}}
	n.start(failing{state(name, user), n})
	m.mu.Lock()
	defer m.mu.Unlock()
	m.nodes[n.peer.ID] = n
	return n
}

func (n *node) start(s apps.State) {
	log := slog.New(slog.DiscardHandler)
	life, stop := context.WithCancel(context.Background())
	n.Keeper = New(Config{
		Self: n.peer.ID, Log: log, PeerLog: limit.NewLog(log), Verifier: identity.NewVerifier(n.m.trust, identity.NewClock()), State: s, First: n.first,
		Work: new(inflight.Tracker), Life: life, Ask: n.ask, AskOnce: n.ask, Holders: n.holders, Online: n.others, Hint: func(time.Time) {},
		SigningTime: func(_ context.Context, now time.Time) time.Time { return now },
		User:        func() string { return n.peer.User }, App: func(string) any { return ruled(func(string) []string { return []string{"group:ops"} }) },
		Signer: func() (*identity.CA, error) {
			if !n.signs {
				return nil, errors.New("no CA key")
			}
			return n.m.ca, nil
		},
		Apps:    func() []string { return []string{"terminal"} },
		Applied: func(uint64, string) {}, Announce: func(group, what, more string) { n.announced = append(n.announced, group+": "+what+" "+more) },
		Judge: func() {
			n.m.mu.Lock()
			defer n.m.mu.Unlock()
			n.judged++
		},
	})
	done := make(chan struct{})
	go func() { defer close(done); n.Run() }()
	n.stop = func() {
		stop()
		<-done
		<-n.Work.Close()
	}
	n.m.t.Cleanup(n.stop)
}

func (n *node) ask(ctx context.Context, to identity.ID, method, path string, body []byte) (*http.Response, error) {
	n.m.mu.Lock()
	other := n.m.nodes[to]
	n.asks++
	reached := other != nil && other.online && n.online
	silent := reached && other.silent
	n.m.mu.Unlock()
	if silent {
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}
	if !reached {
		return nil, answer.Errorf(answer.Unavailable, "offline")
	}
	w := httptest.NewRecorder()
	other.Serve(w, httptest.NewRequest(method, path, bytes.NewReader(body)), n.peer, n.peer.User == "root")
	if resp := w.Result(); resp.StatusCode < 300 {
		return resp, nil
	}
	return nil, answer.Parse(w.Code, w.Body.Bytes())
}

func (n *node) holders(ctx context.Context) ([]apps.Endpoint, error) {
	all, err := n.others(ctx)
	return slices.DeleteFunc(all, func(e apps.Endpoint) bool { return !e.Signer }), err
}

func (n *node) others(context.Context) (out []apps.Endpoint, _ error) {
	n.m.mu.Lock()
	defer n.m.mu.Unlock()
	for id, o := range n.m.nodes {
		if id != n.peer.ID && o.online {
			out = append(out, apps.Endpoint{ID: id, Signer: o.signs})
		}
	}
	return out, nil
}

// put puts users into group ops until a time.
func put(until unixtime.Seconds, users ...string) func(*signed.Source) error {
	return func(s *signed.Source) error {
		g := s.Groups["ops"]
		for _, u := range users {
			g.Members = append(slices.DeleteFunc(g.Members, func(m signed.Member) bool { return m.User == u }), signed.Member{User: u, Added: 1, Until: until})
		}
		s.Groups["ops"] = g
		return nil
	}
}

func (n *node) propose(change func(*signed.Source) error) uint64 {
	n.m.t.Helper()
	v, err := n.Propose(n.m.t.Context(), change)
	if err != nil {
		n.m.t.Fatal(err)
	}
	return v
}

// lets reports whether a rule for group ops means a user.
func (n *node) lets(user string) bool {
	return n.Names(apps.Peer{User: user}, []string{"group:ops"})
}

// eventually waits for a condition, in the time of a bubble.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for range 1000 {
		synctest.Wait()
		if is() {
			return
		}
		tick := time.NewTimer(100 * time.Millisecond)
		<-tick.C
	}
	t.Fatalf("never true: %s", what)
}

// bubble runs a test in the time of its own.
func bubble(t *testing.T, test func(t *testing.T, m *mesh)) {
	synctest.Test(t, func(t *testing.T) { test(t, newMesh(t)) })
}

func TestAChangeReachesWhoIsOnlineAndIsAskedForByWhoWasNot(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		root, office, away := m.join("root", "root"), m.join("office", "alice"), m.join("away", "alice")
		office.lets("bob") // a rule there names the group
		away.lets("bob")
		m.mu.Lock()
		away.online = false
		m.mu.Unlock()
		root.propose(put(0, "bob"))
		eventually(t, "the office lets bob in", func() bool { return office.lets("bob") })
		if away.lets("bob") || office.lets("carol") {
			t.Error("somebody else is let in, or who is away knows of it")
		}
		m.mu.Lock()
		away.online = true
		m.mu.Unlock()
		away.Connected()
		eventually(t, "who was away lets bob in", func() bool { return away.lets("bob") })
		root.propose(func(s *signed.Source) error { delete(s.Groups, "ops"); return nil })
		eventually(t, "bob is let in no more", func() bool { return !office.lets("bob") && !away.lets("bob") })
	})
}

func TestAnEndOrARemovalIsLookedAtWithinFiveSeconds(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		root, office := m.join("root", "root"), m.join("office", "alice")
		office.lets("bob")
		end := time.Now().Add(time.Hour)
		root.propose(put(unixtime.Of(end), "bob"))
		eventually(t, "bob is let in", func() bool { return office.lets("bob") })
		m.mu.Lock()
		before := office.judged
		m.mu.Unlock()
		timer := time.NewTimer(time.Until(end) - time.Second)
		<-timer.C
		if !office.lets("bob") {
			t.Error("bob is put out before the end")
		}
		timer.Reset(6 * time.Second)
		<-timer.C
		m.mu.Lock()
		defer m.mu.Unlock()
		if office.judged == before {
			t.Error("nobody has looked at what runs")
		}
	})
}

func TestWhoCannotGetAPolicyItKnowsOfLetsNobodyInByTheOldOneAfterTenMinutes(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		root, office := m.join("root", "root"), m.join("office", "alice")
		office.lets("bob")
		root.propose(put(0, "bob"))
		eventually(t, "bob is let in", func() bool { return office.lets("bob") })
		m.mu.Lock()
		root.online = false // what follows comes by others: a head without its slice
		m.mu.Unlock()
		root.propose(put(0, "carol"))
		if err := office.Take(root.Head().Document); err != nil {
			t.Fatal(err)
		}
		timer := time.NewTimer(9 * time.Minute)
		<-timer.C
		if !office.lets("bob") {
			t.Error("the old policy is not in force for ten minutes")
		}
		timer.Reset(2 * time.Minute)
		<-timer.C
		if office.lets("bob") || !office.Rights().IsStale() {
			t.Error("the old policy lets somebody in after ten minutes")
		}
		m.mu.Lock()
		root.online = true
		m.mu.Unlock()
		eventually(t, "the new policy is in force", func() bool { return office.lets("carol") && office.lets("bob") })
	})
}

func TestWhoCannotGetThePolicyThatBeginsToEnforceEnforcesAfterTenMinutes(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		root, office := m.join("root", "root"), m.join("office", "alice")
		root.propose(put(0, "bob")) // groups alone
		eventually(t, "the policy is in force", func() bool { return office.Rights() != nil && office.status().InForce })
		m.mu.Lock()
		root.online = false
		m.mu.Unlock()
		root.propose(func(s *signed.Source) error { s.Mode = signed.Enforce; return nil })
		if err := office.Take(root.Head().Document); err != nil {
			t.Fatal(err)
		}
		timer := time.NewTimer(11 * time.Minute)
		<-timer.C
		if d := office.Rights().Decide(apps.Peer{User: "bob"}, "terminal", "shell", office.now()); d.Allow {
			t.Errorf("somebody is let in without a grant, where the head says that grants are enforced: %+v", d)
		}
	})
}

func TestNobodyIsAddedLaterThanAVersionIsSigned(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		root := m.join("root", "root")
		hub := time.Now()
		ahead := unixtime.Of(hub.Add(300 * 24 * time.Hour))
		add := func(user string, added unixtime.Seconds) func(*signed.Source) error {
			return func(s *signed.Source) error {
				s.Mode, s.Users[user] = signed.Enforce, signed.User{}
				s.Groups["ops"] = signed.Group{Members: append(s.Groups["ops"].Members, signed.Member{User: user, Added: added})}
				s.Grants = append(s.Grants, signed.Grant{Name: "of-" + user, Who: []signed.Who{{Name: user, Added: added}}, To: []string{"terminal"}, At: []string{"*"}, From: []string{"*"}})
				return nil
			}
		}
		root.SigningTime = func(context.Context, time.Time) time.Time { return ahead.Time() }
		root.propose(add("ann", ahead)) // before a hub says otherwise
		root.SigningTime = func(context.Context, time.Time) time.Time { return hub }
		root.propose(add("bob", ahead))
		root.propose(add("carol", 5))
		source, _, err := root.whole()
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range []unixtime.Seconds{ahead, unixtime.Of(hub), 5} {
			if m, w := source.Groups["ops"].Members[i], source.Grants[i].Who[0]; m.Added != want || w.Added != want {
				t.Errorf("%s was added at %d, and %s at %d, want %d", m.User, m.Added, w.Name, w.Added, want)
			}
		}
	})
}

func TestWhatRunsIsJudgedAgainWhenAnEvictionEndsMemberships(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		root, office := m.join("root", "root"), m.join("office", "alice")
		office.lets("bob")
		root.propose(put(0, "bob"))
		eventually(t, "bob is let in", func() bool { return office.lets("bob") })
		m.mu.Lock()
		before := office.judged
		m.mu.Unlock()
		evicted, err := m.trust.Evict(m.ca, "bob", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		office.Verifier.Set(evicted)
		office.TrustChanged()
		if office.lets("bob") {
			t.Error("the membership of the one who was evicted is good for the next of that name")
		}
		eventually(t, "what runs by it is looked at", func() bool {
			m.mu.Lock()
			defer m.mu.Unlock()
			return office.judged > before
		})
	})
}

// An eviction reaches a day ahead. Whoever is in a file as before stays out, and whoever is new in it
// is in.
func TestWhoIsNewInAFileAfterAnEvictionIsInForce(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		root := m.join("root", "root")
		root.propose(put(0, "bob"))
		evicted, err := m.trust.EvictAll(m.ca, time.Now(), identity.Eviction{User: "bob", Admitted: time.Now().Add(24 * time.Hour)}, identity.Eviction{User: "carol", Admitted: time.Now().Add(24 * time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		root.Verifier.Set(evicted)
		root.TrustChanged()
		source, version, err := root.Source()
		if err != nil {
			t.Fatal(err)
		}
		next := source.Clone()
		next.Mode, next.Users["carol"] = signed.Enforce, signed.User{}
		g := next.Groups["ops"]
		g.Members = append(g.Members, signed.Member{User: "carol", Added: unixtime.Of(time.Now())})
		next.Groups["ops"] = g
		next.Grants = append(next.Grants, signed.Grant{Name: "g", Who: []signed.Who{{Name: "carol", Added: unixtime.Of(time.Now())}}, To: []string{"terminal"}, At: []string{"*"}, From: []string{"*"}})
		body, err := json.Marshal(api.PolicySource{Version: version, Source: next})
		if err != nil {
			t.Fatal(err)
		}
		w := httptest.NewRecorder()
		root.Manage(w, httptest.NewRequest(http.MethodPut, "/", bytes.NewReader(body)), "source")
		if w.Code != http.StatusOK {
			t.Fatal(w.Body)
		}
		eventually(t, "carol is let in", func() bool { return root.lets("carol") })
		if root.lets("bob") || !root.Rights().Decide(apps.Peer{User: "carol"}, "terminal", "shell", root.now()).Allow {
			t.Errorf("bob is let in: %t; or the grant of carol does not count", root.lets("bob"))
		}
	})
}

func TestWhatIsDirectIsJudgedByAHeadWhoseSliceCannotBeHad(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		root, office := m.join("root", "root"), m.join("office", "alice")
		root.propose(put(0, "bob"))
		eventually(t, "the policy is in force", func() bool { return office.status().InForce })
		m.mu.Lock()
		root.online = false // what follows comes by others: a head without its slice
		before := office.judged
		m.mu.Unlock()
		root.propose(func(s *signed.Source) error { s.Direct = signed.DirectOff; return nil })
		if err := office.Take(root.Head().Document); err != nil {
			t.Fatal(err)
		}
		within(t, time.Minute, "what runs is looked at", func() bool {
			m.mu.Lock()
			defer m.mu.Unlock()
			return office.judged > before
		})
	})
}

func TestAPolicyThatCannotBeReadLetsNobodyInUntilItIsHadAgain(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		root, office := m.join("root", "root"), m.join("office", "alice")
		root.propose(func(s *signed.Source) error {
			s.Mode, s.Users["bob"] = signed.Enforce, signed.User{}
			s.Grants = []signed.Grant{{Name: "bob", Who: []signed.Who{{Name: "bob", Added: 1}}, To: []string{"terminal"}, At: []string{"*"}, From: []string{"*"}}}
			return nil
		})
		gets := func(user string) bool {
			return office.Rights().Decide(apps.Peer{User: user}, "terminal", "shell", office.now()).Allow
		}
		eventually(t, "the policy is in force", func() bool { return office.Rights() != nil && gets("bob") && !gets("eve") })
		office.stop()
		if err := office.State.Save(stateHead, []byte("{}")); err != nil {
			t.Fatal(err)
		}
		office.start(office.State)
		if gets("eve") || gets("bob") {
			t.Error("somebody is let in by a policy that is not known")
		}
		office.Connected()
		eventually(t, "the policy is in force again", func() bool { return gets("bob") && !gets("eve") })
	})
}

func TestATermThatCannotBeIsNotAskedFor(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		root, office := m.join("root", "root"), m.join("office", "alice")
		if got := office.unknown(t.Context(), []string{"group:a b"}); len(got) != 1 {
			t.Errorf("it is known: %q", got)
		}
		office.lets("bob")
		root.propose(put(0, "bob"))
		eventually(t, "bob is let in", func() bool { return office.lets("bob") })
	})
}

func TestTwoHoldersThatChangeThePolicyAtOnceLoseNothing(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		one, two, office := m.join("root", "root"), m.join("spare", "root"), m.join("office", "alice")
		office.lets("x")
		var users []string
		var both sync.WaitGroup
		for i, n := range []*node{one, two} {
			for j := range 8 {
				user := fmt.Sprintf("user%d-%d", i, j)
				users = append(users, user)
				both.Go(func() {
					if _, err := n.Propose(t.Context(), put(0, user)); err != nil {
						t.Error(err)
					}
				})
			}
		}
		both.Wait()
		for _, n := range []*node{one, two, office} {
			eventually(t, "all are in the group", func() bool {
				return !slices.ContainsFunc(users, func(u string) bool { return !n.lets(u) })
			})
		}
	})
}

// reached changes whether an endpoint is reached.
func (n *node) reached(is bool) {
	n.m.mu.Lock()
	defer n.m.mu.Unlock()
	n.online = is
}

func TestSeveralChangesOfAHolderThatWasApartAreNotLost(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) { m.losesNothing(t, func(*node) {}) })
}

// losesNothing has a holder make changes while another makes more of them, and do something before it
// hears of these. Both have set the end of guest: end is what the other has set.
func (m *mesh) losesNothing(t *testing.T, before func(*node)) (one, two *node, end unixtime.Seconds) {
	t.Helper()
	one, two = m.join("root", "root"), m.join("spare", "root")
	one.lets("x")
	one.propose(put(0, "first"))
	eventually(t, "both have the first version", func() bool { return two.Head() != nil })
	one.reached(false)
	end = unixtime.Of(time.Now().Add(24 * time.Hour))
	for _, change := range []func(*signed.Source) error{put(0, "a", "b"), put(0, "c"), ends("guest", end-1)} {
		one.propose(change)
	}
	for _, change := range []func(*signed.Source) error{put(0, "d"), put(0, "e"), put(0, "f"), ends("guest", end)} {
		two.propose(change)
	}
	before(one)
	one.reached(true)
	one.Connected()
	eventually(t, "all are in the group", func() bool {
		return !slices.ContainsFunc([]string{"first", "a", "b", "c", "d", "e", "f"}, func(u string) bool { return !one.lets(u) })
	})
	return one, two, end
}

func TestWhatAnotherHolderTakesBackIsNotChangedAgain(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) { m.takesBack(t, func(*node) {}) })
}

// takesBack has a holder take back what another has changed, and this one do something before it hears
// of the last version.
func (m *mesh) takesBack(t *testing.T, before func(*node)) {
	t.Helper()
	one, two := m.join("root", "root"), m.join("spare", "root")
	one.lets("x")
	two.lets("x")
	for _, apart := range []bool{false, true} { // told of each version, and of the last one alone
		one.propose(put(0, "bob"))
		eventually(t, "bob is let in", func() bool { return one.lets("bob") && two.lets("bob") })
		one.reached(!apart)
		for _, change := range []func(*signed.Source) error{
			func(s *signed.Source) error { delete(s.Groups, "ops"); return nil }, put(0, "carol"), put(0, "dave"),
		} {
			two.propose(change)
			if !apart {
				eventually(t, "one has it", func() bool { return one.Head().Sum == two.Head().Sum && !one.behind() })
			}
		}
		before(one)
		one.reached(true)
		one.Connected()
		eventually(t, "dave is let in and bob is not", func() bool { return one.lets("dave") && !one.lets("bob") })
		timer := time.NewTimer(time.Minute)
		<-timer.C
		if one.lets("bob") || two.lets("bob") || one.Head().Sum != two.Head().Sum {
			t.Errorf("bob is back, at version %d (apart: %v)", one.Head().Version, apart)
		}
	}
}

func TestNothingOldForeignOrForgedTakesThePlaceOfAPolicy(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		root, office := m.join("root", "root"), m.join("office", "alice")
		office.lets("bob")
		root.propose(put(0, "bob"))
		old := root.Head()
		root.propose(func(s *signed.Source) error { s.Groups["ops"] = signed.Group{Members: []signed.Member{}}; return nil })
		eventually(t, "the second version is in force", func() bool { h := office.Head(); return h != nil && h.Version == 2 && !office.lets("bob") })
		if err := office.Take(old.Document); !errors.Is(err, identity.ErrRollback) {
			t.Errorf("an old head: %v", err)
		}
		slice, err := m.sliceOf(old, office, "bob")
		if err != nil {
			t.Fatal(err)
		}
		if err := office.put(old, slice); err == nil {
			t.Error("an old head with its old slice is taken")
		}
		if err := office.put(office.Head(), slice); err == nil {
			t.Error("an old slice is taken under the new head")
		}
		other := newMesh(t)
		outsider := other.join("root", "root")
		for range 3 {
			outsider.propose(put(0, "eve"))
		}
		if err := office.Take(outsider.Head().Document); !errors.Is(err, identity.ErrUntrusted) {
			t.Errorf("a head of another mesh: %v", err)
		}
		if office.lets("bob") || office.lets("eve") || office.Head().Version != 2 {
			t.Error("something of it is in force")
		}
	})
}

// sliceOf is what a holder once signed for an endpoint.
func (m *mesh) sliceOf(h *signed.Signed, n *node, user string) ([]byte, error) {
	s := empty()
	if err := put(0, user)(s); err != nil {
		return nil, err
	}
	return s.Slice(h, n.peer.ID, []string{"group:ops"}).Sign(m.ca)
}

func TestAMemberGetsItsOwnSliceAndNoMore(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		root, office := m.join("root", "root"), m.join("office", "alice")
		root.propose(put(0, "bob"))
		if _, err := office.ask(t.Context(), root.peer.ID, http.MethodGet, PathSource, nil); answer.CodeOf(err) != answer.Denied {
			t.Errorf("the whole policy: %v", err)
		}
		limited := 0
		for range 2 * askBurst {
			resp, err := office.ask(t.Context(), root.peer.ID, http.MethodPost, PathSlice, []byte(`{"asked":["group:ops"]}`))
			if answer.CodeOf(err) == answer.Limit {
				limited++
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			var out given
			b, _ := io.ReadAll(resp.Body)
			if err := json.Unmarshal(b, &out); err != nil {
				t.Fatal(err)
			}
			if _, err := signed.OpenSlice(m.trust, root.Head(), office.peer.ID, out.Body); err != nil {
				t.Error(err)
			}
		}
		if limited == 0 {
			t.Error("it may ask without end")
		}
		for _, body := range []string{``, `{`, `{"asked":["bo b"]}`, `[]`} {
			if _, err := m.join("x", "eve").ask(t.Context(), root.peer.ID, http.MethodPost, PathSlice, []byte(body)); answer.CodeOf(err) != answer.BadRequest {
				t.Errorf("%q: %v", body, err)
			}
		}
	})
}

func TestAChangeThatCannotBeSavedIsNotInForceAndNothingIsLost(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		root := m.join("root", "root")
		root.propose(put(0, "bob"))
		full := errors.New("the disk is full")
		root.disk.Store(&full)
		if _, err := root.Propose(t.Context(), put(0, "carol")); !errors.Is(err, full) {
			t.Errorf("no place to save: %v", err)
		}
		root.disk.Store(nil)
		if root.Head().Version != 1 || root.lets("carol") {
			t.Error("what was not saved is in force")
		}
		s := root.State
		root.stop()
		root.start(s)
		eventually(t, "bob is let in as before", func() bool { return root.lets("bob") })
		if v := root.propose(put(0, "carol")); v != 2 {
			t.Errorf("the next version is %d", v)
		}
		eventually(t, "carol is let in", func() bool { return root.lets("carol") })
	})
}

func TestAPolicyIsSignedAgainWhenTheMeshHasAnotherCA(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		root, office := m.join("root", "root"), m.join("office", "alice")
		office.lets("bob")
		root.propose(put(0, "bob"))
		eventually(t, "bob is let in", func() bool { return office.lets("bob") })
		next, err := m.ca.Successor(time.Now())
		if err != nil {
			t.Fatal(err)
		}
		trust, err := m.trust.Rotate(m.ca, next, time.Now().Add(time.Hour), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		old := m.ca
		m.mu.Lock()
		m.ca, m.trust = next, trust
		m.mu.Unlock()
		for _, n := range []*node{root, office} {
			n.Verifier.Set(trust) // the office may be told of the new head at once
		}
		root.TrustChanged()
		office.TrustChanged()
		if !office.lets("bob") {
			t.Error("what is in force ends with the CA that signed it")
		}
		eventually(t, "the new CA has signed it", func() bool { h := office.Head(); return h.By == next.ID() && h.Version == 2 })
		stolen, err := signed.Head{Mesh: trust.Mesh(), Version: 9, Issued: unixtime.Of(time.Now()), Source: signed.Sum(nil)}.Sign(old, trust)
		if err != nil {
			t.Fatal(err)
		}
		if err := office.Take(stolen.Document); err == nil || office.Head().Version == 9 {
			t.Error("a head of the CA before is taken")
		}
	})
}

func TestWithoutASliceAnEnforcedPolicyLetsNobodyIn(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		root, office := m.join("root", "root"), m.join("office", "alice")
		m.mu.Lock()
		root.online = false
		m.mu.Unlock()
		root.propose(func(s *signed.Source) error { s.Mode = signed.Enforce; return nil })
		if err := office.Take(root.Head().Document); err != nil {
			t.Fatal(err)
		}
		if d := office.Rights().Decide(apps.Peer{User: "bob"}, "terminal", "shell", office.now()); d.Allow || d.Reason != policy.NoGrant {
			t.Errorf("%+v", d)
		}
	})
}

func TestASourceIsReplacedOnlyFromTheVersionThatItWasMadeFrom(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		root := m.join("root", "root")
		for base, want := range []int{http.StatusOK, http.StatusOK} {
			body, err := json.Marshal(api.PolicySource{Version: uint64(base), Source: empty()})
			if err != nil {
				t.Fatal(err)
			}
			for i := range 2 { // the second time it was made from a version that is old
				w := httptest.NewRecorder()
				root.Manage(w, httptest.NewRequest(http.MethodPut, "/", bytes.NewReader(body)), "source")
				if ok := w.Code == want; ok != (i == 0) {
					t.Errorf("from version %d, attempt %d: %d %s", base, i, w.Code, w.Body)
				}
			}
		}
	})
}
