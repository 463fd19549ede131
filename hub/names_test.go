package hub

import (
	"net/url"
	"testing"
	"time"

	"ztm/hub/limits"
	"ztm/tunnel"
	"ztm/tunnel/identity"
)

func TestANameThatBecameFreeIsKeptForItsUser(t *testing.T) {
	for _, tt := range []struct {
		name string
		free func(h *testHub, bob, root *online) // ends bob's endpoint "laptop"
		kept bool
	}{
		{"left", func(h *testHub, bob, _ *online) { bob.remove(bob.id) }, true},
		{"renamed", func(_ *testHub, bob, _ *online) { bob.put(bob.Session, bob.record("desktop")) }, true},
		{"evicted", func(h *testHub, _, root *online) { h.evict(root, "bob") }, true},
		{"removed by root", func(_ *testHub, bob, root *online) { root.remove(bob.id) }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			h := startIn(t, dir)
			bob, root := h.device("bob").online("laptop"), h.device("root").online("root-ep")
			tt.free(h, bob, root)
			alice := h.device("alice")
			take := func(d *device) error {
				s, err := d.dial()
				if err != nil {
					return err
				}
				defer s.Close()
				return d.put(s, d.record("laptop"))
			}
			if !tt.kept {
				if err := take(alice); err != nil {
					t.Error(err)
				}
				return
			}
			wantRefusal(t, take(alice), 409, "kept for them")
			h.stop()
			h = startIn(t, dir)
			alice.hub = h
			wantRefusal(t, take(alice), 409, "kept for them")
			h.stop()
			h = startIn(t, dir, ahead(limits.NameKept+day))
			alice.hub = h
			if err := take(alice); err != nil {
				t.Errorf("after its time: %v", err)
			}
		})
	}
}

func TestAKeptNameGoesBackToItsUser(t *testing.T) {
	h := start(t)
	old := h.device("bob").online("laptop")
	old.remove(old.id)
	fresh := h.device("bob")
	if err := fresh.put(fresh.session(), fresh.record("laptop")); err != nil {
		t.Fatal(err)
	}
	wantRefusal(t, h.device("alice").register("laptop"), 409, "is taken by endpoint "+string(fresh.id))
}

func TestANameThatIsTakenBackIsAtNoTimeThatOfAnotherUser(t *testing.T) {
	h := start(t)
	h.device("bob").online("laptop")
	fresh := h.device("bob")
	late := fresh.record("laptop")
	s := fresh.session()
	if err := fresh.put(s, fresh.record("desktop")); err != nil {
		t.Fatal(err)
	}
	// The old one makes room for a record that then is refused.
	err := s.Call(t.Context(), "PUT", tunnel.PathEndpoints+"/"+string(fresh.id), url.Values{"replace": {"true"}}, late, nil)
	wantRefusal(t, err, 409, "is older")
	wantRefusal(t, h.device("alice").register("laptop"), 409, "of user bob")
	if err := fresh.put(s, fresh.record("laptop")); err != nil {
		t.Errorf("its user has it back: %v", err)
	}
}

func TestOfTwoDevicesThatWereAdmittedTogetherTheHolderKeepsTheName(t *testing.T) {
	h := start(t)
	now := time.Now()
	old := h.deviceAt("bob", now, now)
	s := old.session()
	if err := old.put(s, old.record("laptop")); err != nil {
		t.Fatal(err)
	}
	fresh := h.deviceAt("bob", now, now)
	err := fresh.session().Call(t.Context(), "PUT", tunnel.PathEndpoints+"/"+string(fresh.id), url.Values{"replace": {"true"}}, fresh.record("laptop"), nil)
	if err != nil {
		t.Fatal(err)
	}
	// Neither is online.
	wantRefusal(t, old.put(old.session(), old.record("laptop")), 409, "is taken by endpoint "+string(fresh.id))
}

func TestAHolderOfTheCAKeyHearsWhatIsKnownOfAName(t *testing.T) {
	h := start(t)
	root := h.device("root").online("root-ep")
	h.device("bob").online("laptop")
	left := h.device("bob").online("desktop")
	left.remove(left.id)
	for name, want := range map[string]struct {
		taken bool
		kept  string
	}{"laptop": {true, ""}, "desktop": {false, "bob"}, "new": {false, ""}} {
		carol := h.unjoined("carol")
		joined := make(chan error, 1)
		token := h.token("carol", root.id)
		go func() { joined <- carol.join(name, token) }()
		e := root.next(tunnel.EventSign)
		if n := e.Sign.Name; n == nil || (n.Taken != nil) != want.taken || n.KeptFor != want.kept {
			t.Errorf("%s: %+v", name, n)
		} else if err := n.Check(name, "bob"); (err != nil) != want.taken {
			t.Errorf("%s for its user: %v", name, err)
		} else if err := n.Check(name, "carol"); (err != nil) != (want.taken || want.kept != "") {
			t.Errorf("%s for another user: %v", name, err)
		}
		if err := root.Call(t.Context(), "POST", tunnel.PathSign+"/"+e.Request, nil, h.signer(root.id)(*e.Sign), nil); err != nil {
			t.Fatal(err)
		}
		if err := <-joined; err != nil {
			t.Error(err)
		}
	}
}

// remove takes an endpoint out of the directory.
func (o *online) remove(id identity.ID) {
	o.hub.t.Helper()
	if err := o.Call(o.hub.t.Context(), "DELETE", tunnel.PathEndpoints+"/"+string(id), nil, nil, nil); err != nil {
		o.hub.t.Fatal(err)
	}
}

// register opens a session and puts a record.
func (d *device) register(name string) error {
	d.hub.t.Helper()
	return d.put(d.session(), d.record(name))
}

func TestAnotherHubOfAMeshSaysWhatIsMissing(t *testing.T) {
	first := start(t)
	note := func(h *testHub) string {
		var status tunnel.HubStatus
		if err := h.device("bob").session().Call(t.Context(), "GET", tunnel.PathHub, nil, nil, &status); err != nil {
			t.Fatal(err)
		}
		return status.Note
	}
	if got := note(first); got != "" {
		t.Errorf("the only hub says %q", got)
	}
	dir := t.TempDir()
	second := startIn(t, dir, founded(t, first.ca), func(c *Config) { c.Names = []string{"hub2.test:8888"} })
	if note(second) == "" {
		t.Error("a second hub says nothing")
	}
	permit := second.config.Permit
	second.stop()
	if again := startIn(t, dir, func(c *Config) { c.Permit = permit }); note(again) == "" {
		t.Error("a second hub says nothing in its second start")
	}
	if got := note(startIn(t, t.TempDir(), founded(t, first.ca))); got != "" {
		t.Errorf("a hub in the place of one that was lost says %q", got)
	}
}
