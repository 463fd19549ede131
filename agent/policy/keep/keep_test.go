package keep

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
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

// lettingBobIn is an endpoint of root, and one of alice where the policy lets bob in.
func (m *mesh) lettingBobIn(t *testing.T) (root, office *node) {
	t.Helper()
	root, office = m.join("root", "root"), m.join("office", "alice")
	office.lets("bob")
	root.propose(put(0, "bob"))
	eventually(t, "bob is let in", func() bool { return office.lets("bob") })
	return root, office
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
		end := time.Now().Add(time.Hour + 13*time.Second) // at no moment at which one looks that looks more seldom
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
		before = office.judged
		m.mu.Unlock()
		root.propose(func(s *signed.Source) error { s.Groups["ops"] = signed.Group{Members: []signed.Member{}}; return nil })
		removed := time.Now()
		eventually(t, "what runs is looked at when a member was removed", func() bool {
			m.mu.Lock()
			defer m.mu.Unlock()
			return office.judged > before
		})
		m.mu.Lock()
		if late := time.Since(removed); late > 5*time.Second {
			t.Errorf("it was looked at after %v", late)
		}
	})
}

func TestWhoCannotGetAPolicyItKnowsOfLetsNobodyInByTheOldOneAfterTenMinutes(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		root, office := m.lettingBobIn(t)
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
		_, office := m.lettingBobIn(t)
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
