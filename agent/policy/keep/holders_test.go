package keep

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	signed "ztm/tunnel/identity/policy"
	"ztm/tunnel/unixtime"
)

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

func TestASourceThatComesLateTakesThePlaceOfNoNewerOne(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		one, two := m.join("root", "root"), m.join("spare", "root")
		var asked atomic.Int32
		late := make(chan struct{})
		two.Ask = func(ctx context.Context, to identity.ID, method, path string, body []byte) (*http.Response, error) {
			resp, err := two.ask(ctx, to, method, path, body)
			if path == PathSource && asked.Add(1) == 1 {
				<-late
			}
			return resp, err
		}
		one.propose(put(0, "bob"))
		eventually(t, "the other holder asks for the source", func() bool { return asked.Load() == 1 })
		two.propose(put(0, "carol"))
		close(late)
		synctest.Wait()
		var doc []byte
		if _, err := two.State.Load(stateAll, &doc); err != nil || two.Head().Version != 2 || signed.Sum(doc) != two.Head().Source {
			t.Errorf("on disk is the source of another head than version %d: %v", two.Head().Version, err)
		}
	})
}

// A holder may have made another version meanwhile, and any of them may be wrong: the head that is in
// force says which source it is of.
func TestASourceThatIsNotTheHeadsIsNeitherTakenNorGiven(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		one, two := m.join("root", "root"), m.join("spare", "root")
		var wrong atomic.Bool
		wrong.Store(true)
		other := empty()
		if err := put(0, "mallory")(other); err != nil {
			t.Fatal(err)
		}
		doc, err := other.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		two.Ask = func(ctx context.Context, to identity.ID, method, path string, body []byte) (*http.Response, error) {
			if path != PathSource || !wrong.Load() {
				return two.ask(ctx, to, method, path, body)
			}
			w := httptest.NewRecorder()
			answer.JSON(w, given{Head: one.Head().Document, Body: doc})
			return w.Result(), nil
		}
		one.propose(put(0, "bob"))
		eventually(t, "the other holder knows of it", func() bool { return two.Head() != nil })
		if s, _, err := two.Source(); err == nil || two.lets("mallory") {
			t.Errorf("it is taken: %+v", s)
		}
		wrong.Store(false)
		eventually(t, "the other holder has it", func() bool { return two.lets("bob") })
		if err := one.State.Save(stateAll, doc); err != nil {
			t.Fatal(err)
		}
		if _, err := two.ask(t.Context(), one.peer.ID, http.MethodGet, PathSource, nil); answer.CodeOf(err) != answer.Conflict {
			t.Errorf("it is given: %v", err)
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
