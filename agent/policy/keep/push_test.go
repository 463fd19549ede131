package keep

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ztm/apps"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	signed "ztm/tunnel/identity/policy"
	"ztm/tunnel/memory"
	"ztm/tunnel/unixtime"
)

// many are endpoints without keepers.
func many(n int) []apps.Endpoint {
	out := make([]apps.Endpoint, n)
	for i := range out {
		digits := []byte(fmt.Sprintf("%032d", i))
		for j, c := range digits {
			digits[j] = c - '0' + 'a'
		}
		out[i].ID = identity.ID(digits)
	}
	return out
}

// far makes endpoints of all of a list, which take some time for an answer and then call the function.
func (n *node) far(all []apps.Endpoint, takes time.Duration, answered func(identity.ID)) {
	n.Online = func(context.Context) ([]apps.Endpoint, error) { return all, nil }
	n.AskOnce = func(ctx context.Context, id identity.ID, _, _ string, _ []byte) (*http.Response, error) {
		late := time.NewTimer(takes)
		defer late.Stop()
		select {
		case <-late.C:
			answered(id)
			return &http.Response{Body: http.NoBody}, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func TestOfTenThousandEndpointsEachIsToldWithinFiveSeconds(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		root, all := m.join("root", "root"), many(10_000)
		var told, now, most atomic.Int64
		root.far(all, 200*time.Millisecond, func(identity.ID) {
			told.Add(1)
			now.Add(-1)
		})
		once := root.AskOnce
		root.AskOnce = func(ctx context.Context, id identity.ID, method, path string, body []byte) (*http.Response, error) {
			most.Store(max(most.Load(), now.Add(1)))
			return once(ctx, id, method, path, body)
		}
		began := time.Now()
		root.propose(put(0, "bob"))
		eventually(t, "all are told", func() bool { return told.Load() == int64(len(all)) })
		if most.Load() > int64(tellers(memory.Here(), 0)) {
			t.Errorf("%d are told at once, more than %d", most.Load(), tellers(memory.Here(), 0))
		}
		want := 200 * time.Millisecond * time.Duration(len(all)) / time.Duration(tellers(memory.Here(), 0))
		if took := time.Since(began); took > want+200*time.Millisecond || tellers(memory.Here(), 0) == maxTellers && took > 5200*time.Millisecond {
			t.Errorf("it took %v, and with %d at a time %v are enough", took, tellers(memory.Here(), 0), want)
		}
	})
}

func TestFewerAreToldAtOnceWhereWhatTheyAreToldIsLarge(t *testing.T) {
	small := memory.Limit{Bytes: 1 << 30}
	ends := map[string]unixtime.Seconds{}
	for i := range 50_000 {
		ends[fmt.Sprint("user", i)] = unixtime.Seconds(1000 + i)
	}
	large := len(signed.EndsOf(ends))
	if got := tellers(small, large); int64(got)*4*int64(large) > small.Bytes/8 || got >= tellers(small, 0) {
		t.Errorf("%d are told of %d bytes at once, and %d of none", got, large, tellers(small, 0))
	}
}

// shops is a source with a group that a grant gives something at the endpoints with a label.
func shops(all []apps.Endpoint, ours int, members ...string) func(*signed.Source) error {
	return func(s *signed.Source) error {
		*s = *empty()
		s.Mode = signed.Enforce
		for i, e := range all {
			s.Endpoints[fmt.Sprint("e", i)] = signed.Endpoint{ID: e.ID, Labels: []string{fmt.Sprint("ours=", i >= len(all)-ours)}}
		}
		s.Users["bob"], s.Users["carol"] = signed.User{}, signed.User{}
		s.Grants = append(s.Grants, signed.Grant{Name: "ours", Who: []signed.Who{{Name: "group:ops"}}, To: []string{"tunnel"}, At: []string{"label:ours=true"}, From: []string{"*"}})
		s.Groups["ops"] = signed.Group{Members: []signed.Member{}}
		return put(0, members...)(s)
	}
}

// A change is made while all are still being told of the one before: those whom either concerns are
// told before the others.
func TestWhomAChangeConcernsIsToldFirst(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		root, all := m.join("root", "root"), many(4*maxTellers)
		const ours = 12
		asks, moved := len(all)/2, len(all)/2+1 // the rules of the one name the group, the other gets other labels
		root.noteAsked(all[asks].ID, []string{"group:ops"})
		var mu sync.Mutex
		var told []identity.ID
		soFar := func() []identity.ID {
			mu.Lock()
			defer mu.Unlock()
			return slices.Clone(told)
		}
		count := func() int { return len(soFar()) }
		root.far(all, time.Second, func(id identity.ID) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, id)
		})
		root.propose(shops(all, ours, "bob", "carol"))
		eventually(t, "all are told", func() bool { return count() == len(all) })
		mu.Lock()
		told = nil
		mu.Unlock()
		root.propose(shops(all, ours, "bob"))
		root.propose(func(s *signed.Source) error {
			s.Endpoints[fmt.Sprint("e", moved)] = signed.Endpoint{ID: all[moved].ID, Labels: []string{}}
			return nil
		})
		eventually(t, "all are told again", func() bool { return count() >= len(all) })
		first := soFar()
		first = first[:min(len(first), 2*tellers(memory.Here(), 0))] // as many of the first version were told of at once
		for _, e := range append(all[len(all)-ours:], all[asks], all[moved]) {
			if !slices.Contains(first, e.ID) {
				t.Errorf("endpoint %s, which a change concerns, is not among the first %d that are told", e.ID, len(first))
			}
		}
		<-time.After(time.Minute)
		if n := count(); n > len(all)+2*tellers(memory.Here(), 0) {
			t.Errorf("%d endpoints are told: of the older version as well", n)
		}
	})
}

func TestWhoCannotBeToldAtOnceIsToldALittleLater(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		root, all := m.join("root", "root"), many(3)
		var mu sync.Mutex
		tried, told := map[identity.ID]int{}, map[identity.ID]bool{}
		root.far(all, 0, func(identity.ID) {})
		root.AskOnce = func(_ context.Context, id identity.ID, _, _ string, _ []byte) (*http.Response, error) {
			mu.Lock()
			defer mu.Unlock()
			tried[id]++
			switch {
			case id == all[0].ID && tried[id] < tellRounds: // it has no trust list yet with the CA that signs
				return nil, answer.Errorf(answer.Denied, "no")
			case id == all[1].ID && tried[id] == 1:
				return nil, answer.Errorf(answer.Unavailable, "busy")
			}
			told[id] = true
			return &http.Response{Body: http.NoBody}, nil
		}
		root.propose(put(0, "bob"))
		<-time.After(time.Minute)
		mu.Lock()
		defer mu.Unlock()
		if len(told) != len(all) || tried[all[0].ID] != tellRounds || tried[all[1].ID] != 2 || tried[all[2].ID] != 1 {
			t.Errorf("they were tried %v, and told %v", tried, told)
		}
	})
}

func TestWhatIsAskedForIsRememberedWhileWhoAsksIsOnline(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		root, all := m.join("root", "root"), many(2)
		root.far(all[:1], 0, func(identity.ID) {})
		for _, e := range all {
			root.noteAsked(e.ID, []string{"group:ops"})
		}
		root.propose(put(0, "bob"))
		<-time.After(time.Minute)
		if root.askedBy(all[0].ID) == nil || root.askedBy(all[1].ID) != nil {
			t.Errorf("remembered are %v; only %s is online", root.askers, all[0].ID)
		}
	})
}

func TestWhoCanHaveNoSliceIsToldOfTheHeadOnce(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		root, all := m.join("root", "root"), many(2)
		var heads, slices atomic.Int32
		root.far(all, 0, func(identity.ID) { slices.Add(1) })
		root.Ask = func(_ context.Context, id identity.ID, method, path string, _ []byte) (*http.Response, error) {
			if id == all[0].ID && method == http.MethodPost && path == PathHead {
				heads.Add(1)
			}
			return &http.Response{Body: http.NoBody}, nil
		}
		root.propose(func(s *signed.Source) error {
			s.Mode, s.Users["bob"], s.Endpoints["full"] = signed.Enforce, signed.User{}, signed.Endpoint{ID: all[0].ID, Labels: []string{}}
			for i := range signed.MaxSlice / 64 { // more than a slice can have, as each takes more than 64 bytes
				s.Grants = append(s.Grants, signed.Grant{Name: fmt.Sprint("g", i), Who: []signed.Who{{Name: "bob", Added: 5}}, To: []string{"terminal"}, At: []string{"full"}, From: []string{"*"}})
			}
			return nil
		})
		<-time.After(time.Minute)
		if heads.Load() != 1 || slices.Load() != 1 {
			t.Errorf("the one is told %d times, and the other is given its slice %d times", heads.Load(), slices.Load())
		}
	})
}

func TestWhoIsGivenItsSliceAsksForNothing(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		root, office := m.lettingBobIn(t)
		asks := func() int {
			m.mu.Lock()
			defer m.mu.Unlock()
			return office.asks
		}
		before := asks()
		root.propose(put(0, "carol"))
		eventually(t, "carol is let in", func() bool { return office.lets("carol") })
		if n := asks() - before; n != 0 {
			t.Errorf("it asked %d times", n)
		}
		// A holder that has started again does not know what is asked for.
		root.mu.Lock()
		clear(root.askers)
		root.mu.Unlock()
		root.propose(put(0, "dora"))
		for range 1000 {
			synctest.Wait()
			if office.lets("dora") {
				break
			}
			if !office.lets("bob") {
				t.Fatal("a slice without what is asked for is in force")
			}
			<-time.After(10 * time.Millisecond)
		}
		if !office.lets("dora") || asks() == before {
			t.Error("what was missing is not asked for")
		}
	})
}

func TestASliceIsTakenFromRootAlone(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		root, office, shop := m.join("root", "root"), m.join("office", "alice"), m.join("shop", "pia")
		root.propose(put(0, "bob"))
		eventually(t, "the policy is in force", func() bool { return office.status().InForce && shop.status().InForce })
		m.mu.Lock()
		office.online, shop.online = false, false
		m.mu.Unlock()
		old := root.Head()
		root.propose(put(0, "carol"))
		source, head, err := root.whole()
		if err != nil {
			t.Fatal(err)
		}
		slice := func(head *signed.Signed, n *node) []byte {
			doc, err := source.Slice(head, n.peer.ID, nil).Sign(m.ca)
			if err != nil {
				t.Fatal(err)
			}
			return doc
		}
		for what, tt := range map[string]struct {
			by   *node
			in   given
			code int
		}{
			"by another user":         {shop, given{Head: head.Document, Body: slice(head, office)}, http.StatusForbidden},
			"the slice of another":    {root, given{Head: head.Document, Body: slice(head, shop)}, http.StatusBadRequest},
			"of another head":         {root, given{Head: head.Document, Body: slice(old, office)}, http.StatusBadRequest},
			"with a roll-back":        {root, given{Head: old.Document, Body: slice(old, office)}, http.StatusNoContent},
			"without a head":          {root, given{Body: slice(head, office)}, http.StatusBadRequest},
			"with a slice that is no": {root, given{Head: head.Document, Body: []byte("{}")}, http.StatusBadRequest},
		} {
			body, err := json.Marshal(tt.in)
			if err != nil {
				t.Fatal(err)
			}
			w := httptest.NewRecorder()
			office.Serve(w, httptest.NewRequest(http.MethodPut, PathSlice, bytes.NewReader(body)), tt.by.peer, tt.by.peer.User == "root")
			if w.Code != tt.code || office.Version() != old.Version || !office.status().InForce {
				t.Errorf("%s: status %d, want %d; version %d", what, w.Code, tt.code, office.Version())
			}
		}
		give := given{Head: head.Document, Body: slice(head, office)}
		if err := office.takeBoth(give); err != nil || office.Version() != head.Version || !office.status().InForce {
			t.Errorf("its own slice: %v, version %d", err, office.Version())
		}
		before := given{Head: old.Document, Body: slice(old, office)}
		if err := office.takeBoth(before); office.Version() != head.Version || !office.status().InForce {
			t.Errorf("the version before, with its slice, has taken the place of the newest: %v, version %d", err, office.Version())
		}
	})
}

// BenchmarkTenThousandEndpoints is a change of a policy of 10,000 users, 1,000 groups of 50,
// 10,000 grants and 10,000 endpoints until each endpoint has its slice, without what the network takes.
func BenchmarkTenThousandEndpoints(b *testing.B) {
	t := new(testing.T)
	m := newMesh(t)
	root, all := m.join("root", "root"), many(10_000)
	defer root.stop()
	var served sync.WaitGroup
	var bytesOut atomic.Int64
	root.Online = func(context.Context) ([]apps.Endpoint, error) { return all, nil }
	root.AskOnce = func(_ context.Context, _ identity.ID, _, _ string, body []byte) (*http.Response, error) {
		defer served.Done()
		bytesOut.Add(int64(len(body)))
		return &http.Response{Body: http.NoBody}, nil
	}
	change := func(s *signed.Source) error {
		*s = *empty()
		s.Mode = signed.Enforce
		for i := range 10_000 {
			s.Users[fmt.Sprint("u", i)] = signed.User{}
			s.Endpoints[fmt.Sprint("e", i)] = signed.Endpoint{ID: all[i].ID, Labels: []string{fmt.Sprint("site=", i%1000)}}
			s.Grants = append(s.Grants, signed.Grant{Name: fmt.Sprint("grant", i), Who: []signed.Who{{Name: fmt.Sprint("group:g", i%1000)}},
				To: []string{fmt.Sprint("tunnel/tcp/t", i)}, At: []string{fmt.Sprint("label:site=", i%1000)}, From: []string{"*"}})
		}
		for i := range 1000 {
			g := signed.Group{}
			for j := range 50 {
				g.Members = append(g.Members, signed.Member{User: fmt.Sprint("u", (i*50+j)%10_000), Added: 1})
			}
			s.Groups[fmt.Sprint("g", i)] = g
		}
		return nil
	}
	b.ReportAllocs()
	for b.Loop() {
		served.Add(len(all))
		if _, err := root.Propose(b.Context(), change); err != nil {
			b.Fatal(err)
		}
		served.Wait()
	}
	b.ReportMetric(float64(bytesOut.Load())/float64(b.N*len(all)), "bytes/slice")
}

func TestWhoHasNotConfirmedAVersionIsNamedUntilItDoesOrIsGone(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		root, all := m.join("root", "root"), many(3)
		for i := range all {
			all[i].Name = fmt.Sprint("e", i)
		}
		var mu sync.Mutex
		dark, online := map[identity.ID]bool{all[1].ID: true, all[2].ID: true}, slices.Clone(all)
		root.far(all, 0, func(identity.ID) {})
		root.Online = func(context.Context) ([]apps.Endpoint, error) {
			mu.Lock()
			defer mu.Unlock()
			return slices.Clone(online), nil
		}
		root.AskOnce = func(_ context.Context, id identity.ID, _, _ string, _ []byte) (*http.Response, error) {
			mu.Lock()
			defer mu.Unlock()
			if dark[id] {
				return nil, answer.Errorf(answer.Unavailable, "dark")
			}
			return &http.Response{Body: http.NoBody}, nil
		}
		left := func() string {
			began := time.Now()
			names, err := root.unconfirmed(t.Context())
			if took := time.Since(began); err != nil || took > confirmTime || len(names) == 0 && took > 0 {
				t.Errorf("%v after %v: %v", names, took, err)
			}
			return fmt.Sprint(names)
		}
		if got := left(); got != "[]" {
			t.Errorf("before there is a policy: %s", got)
		}
		root.propose(put(0, "bob"))
		if got := left(); got != "[e1 e2]" {
			t.Errorf("two are dark, and left are %s", got)
		}
		mu.Lock()
		delete(dark, all[1].ID)
		mu.Unlock()
		<-time.After(2 * tellAgain)
		if got := root.status().Unconfirmed; !slices.Equal(got, []string{"e2"}) {
			t.Errorf("one is dark, and left are %s", got)
		}
		mu.Lock()
		online = online[:2]
		mu.Unlock()
		<-time.After(2 * tellAgain)
		if got := left(); got != "[]" {
			t.Errorf("who has gone asks by itself, and left are %s", got)
		}
	})
}

func TestThatNobodyCanBeToldIsNoConfirmation(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		root := m.join("root", "root")
		root.Online = func(context.Context) ([]apps.Endpoint, error) {
			return nil, answer.Errorf(answer.Unavailable, "no hub")
		}
		root.propose(put(0, "bob"))
		if names, err := root.unconfirmed(t.Context()); answer.CodeOf(err) != answer.Unavailable {
			t.Errorf("%v, %v", names, err)
		}
	})
}
