package keep

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"ztm/agent/api"
	"ztm/agent/policy"
	"ztm/apps"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	signed "ztm/tunnel/identity/policy"
	"ztm/tunnel/unixtime"
)

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

// What a group says of its members changes nothing: whoever is in it asks a holder in vain to change it.
func TestAMemberChangesNothingByAskingAHolder(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		root, bob := m.join("root", "root"), m.join("bobs", "bob")
		root.propose(put(0, "bob"))
		head := root.Head()
		for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
			for _, path := range []string{PathHead, PathSource, PathSlice, PathHead + "/groups/ops", PathHead + "/groups", PathHead + "/users/bob", PathHead + "/labels", PathHead + "/direct"} {
				body := []byte(`{"add":["mallory"],"direct":"off","name":"ops","head":"","body":""}`)
				if _, err := bob.ask(t.Context(), root.peer.ID, method, path, body); err == nil && path != PathSlice {
					t.Errorf("%s %s is answered", method, path)
				}
				if root.Head() != head || root.lets("mallory") {
					t.Fatalf("%s %s has changed the policy", method, path)
				}
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
		root, office := m.lettingBobIn(t)
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
