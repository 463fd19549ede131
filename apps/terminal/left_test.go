//go:build linux

package terminal

import (
	"io"
	"strings"
	"testing"

	"ztm/apps"
	"ztm/apps/appstest"
	"ztm/tunnel/answer"
	"ztm/tunnel/unixtime"
)

// keep opens a session of an endpoint that is kept, leaves it, and returns its ID.
func (m *mesh) keep(t *testing.T, at *appstest.Host) string {
	t.Helper()
	in, type_ := io.Pipe()
	out := &appstest.Buffer{}
	done := make(chan error, 1)
	go func() {
		done <- run(&appstest.Console{Host: at, In: in, Out: out}, "open", "-t", "--keep", "--", "office", "sh", "-c", "echo up; sleep 1000")
	}()
	appstest.Eventually(t, "output", func() bool { return strings.Contains(out.String(), "up") })
	type_.CloseWithError(errLeft)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	for _, s := range m.list(t) {
		if string(s.Peer) == string(at.Self().ID) {
			return s.ID
		}
	}
	t.Fatal("nothing is kept")
	return ""
}

func TestKeptSessionEndsWithTheMembershipOfItsUser(t *testing.T) {
	m := testMesh(t)
	m.must(t, "config", "--add-user=bob")
	m.keep(t, m.phone)
	mine := m.keep(t, m.laptop)
	m.net.Evict("bob") // and another bob is invited, on the same phone
	appstest.Eventually(t, "the session of the evicted user is gone", func() bool {
		l := m.list(t)
		return len(l) == 1 && l[0].ID == mine
	})
	if r := m.run(m.phone, nil, "attach", "office"); r.Failure == "" {
		t.Errorf("the next user of the name got %+v", r)
	}
}

func TestKeptSessionBelongsToOneDeviceAndOneMembership(t *testing.T) {
	m := testMesh(t)
	m.must(t, "config", "--add-user=bob")
	id := m.keep(t, m.phone)
	bob := apps.Peer{ID: m.phone.Self().ID, User: "bob", Admitted: unixtime.Of(m.phone.Self().Admitted)}
	for who, p := range map[string]apps.Peer{
		"another device":                  {ID: m.laptop.Self().ID, User: "bob", Admitted: bob.Admitted},
		"a later user of the name":        {ID: bob.ID, User: "bob", Admitted: bob.Admitted + 1},
		"another user on the same device": {ID: bob.ID, User: "carol", Admitted: bob.Admitted},
	} {
		if _, err := m.app.register.Find(p, id); answer.CodeOf(err) != answer.NotFound {
			t.Errorf("%s may attach: %v", who, err)
		}
		if l := m.app.register.List(p); len(l) != 0 {
			t.Errorf("%s sees %+v", who, l)
		}
	}
	for who, p := range map[string]apps.Peer{"who opened it": bob, "the endpoint's own user": {ID: m.laptop.Self().ID, User: "alice"}} {
		if _, err := m.app.register.Find(p, id); err != nil {
			t.Errorf("%s may not attach: %v", who, err)
		}
	}
}
