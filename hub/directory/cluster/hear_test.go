package cluster

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"ztm/apps/appstest"
	"ztm/store/etcd/etcdtest"
	"ztm/tunnel/identity"
	"ztm/tunnel/unixtime"
)

// hears has a hub take the record of a device from another hub.
func (h *hub) hears(by identity.Subject, name string, at unixtime.Millis) (holder identity.ID) {
	h.mesh.t.Helper()
	doc := fmt.Appendf(nil, "%s %s %d", by.ID, name, at)
	rec := identity.Record{ID: by.ID, Name: name, Time: at}
	h.mesh.sign(doc, rec, by)
	holder, err := h.Learn(doc, rec, by)
	must(h.mesh.t, err)
	return holder
}

func TestWhatAHubToldAndEtcdHasNotGotGoesWithoutAllBeingReadAgain(t *testing.T) {
	t.Parallel()
	m := newMesh(t, limits, time.Now)
	a := m.add()
	bob, carol := device("bob", "b"), device("carol", "c")
	must(t, a.put(bob, "web", 1))
	appstest.Eventually(t, "the watch has told of it", func() bool {
		same, err := a.same(t.Context())
		return same && err == nil
	})
	before := a.Status().Relists
	a.hears(carol, "box", 1)
	a.hears(bob, "cat", 2)
	if a.Name(bob.ID) != "cat" || a.Name(carol.ID) != "box" {
		t.Fatalf("%q %q", a.Name(bob.ID), a.Name(carol.ID))
	}
	must(t, a.compare(t.Context()))
	if a.Name(bob.ID) != "web" || a.Name(carol.ID) != "" {
		t.Errorf("etcd has another name for them: %q %q", a.Name(bob.ID), a.Name(carol.ID))
	}
	if n := a.Status().Relists; n != before {
		t.Errorf("all was read %d times", n-before)
	}
}

func TestAComparisonThatEtcdBreaksOffIsNone(t *testing.T) {
	t.Parallel()
	m := newMesh(t, limits, time.Now)
	a := m.add()
	m.fault(etcdtest.Alone)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := a.compare(ctx); err == nil || errors.Is(err, errMissed) {
		t.Errorf("%v", err)
	}
}

func TestHubsWhoseTrustListsDifferFollowEtcdAllTheSame(t *testing.T) {
	t.Parallel()
	m := newMesh(t, limits, time.Now)
	a, b := m.add(), m.add()
	must(t, a.trust.Take([]byte("list: bob is out, and eve")))
	must(t, a.Agree(t.Context(), nil))
	b.stop()
	b.trust.doc = []byte("list: bob is out, and mallory")
	must(t, a.put(device("alice", "a"), "box", 1))
	b.start()
	if b.Name(device("", "a").ID) != "box" {
		t.Error("it has not read what etcd has")
	}
	must(t, b.compare(t.Context()))
	if string(b.trust.Document()) != "list: bob is out, and mallory" {
		t.Error("it has forgotten what it knew")
	}
}

func TestAHubThatComesToEtcdDoesNotBringWhatOthersTold(t *testing.T) {
	t.Parallel()
	m := newMesh(t, limits, time.Now)
	m.add()
	other := m.etcd.Start()
	t.Cleanup(other.Close)
	other.Set(etcdtest.Alone)
	m.urls, m.away = []string{other.URL}, true
	b := m.add()
	carol, dan := device("carol", "c"), device("dan", "d")
	b.hears(carol, "box", 1)
	b.stop()
	b.start()
	b.hears(dan, "cat", 1)
	if b.Name(carol.ID) != "box" || b.Name(dan.ID) != "cat" {
		t.Fatalf("%q %q", b.Name(carol.ID), b.Name(dan.ID))
	}
	other.Set(etcdtest.Well)
	appstest.Eventually(t, "it follows etcd", func() bool { s := b.Status(); return s.Relists > 0 && s.Owed == 0 })
	if n := m.etcd.Keys(m.key("ep/")); len(n) != 0 || b.Name(carol.ID) != "" || b.Name(dan.ID) != "" {
		t.Errorf("%v %q %q", n, b.Name(carol.ID), b.Name(dan.ID))
	}
}
