package cluster

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"ztm/apps/appstest"
	"ztm/store/etcd"
	"ztm/store/etcd/etcdtest"
	"ztm/tunnel/identity"
	"ztm/tunnel/unixtime"
)

func TestATokenIsUsedByOneKey(t *testing.T) {
	t.Parallel()
	m := newMesh(t, limits, time.Now)
	a, b := m.add(), m.add()
	ends := time.Now().Add(time.Hour)
	must(t, a.Spend(t.Context(), "n1", []byte("one"), 1, time.Time{}, ends))
	must(t, b.Spend(t.Context(), "n1", []byte("one"), 1, time.Time{}, ends))
	if err := b.Spend(t.Context(), "n1", []byte("two"), 1, time.Time{}, ends); !errors.Is(err, identity.ErrToken) {
		t.Errorf("%v", err)
	}
	for _, key := range []string{"1", "2", "1"} {
		must(t, b.Spend(t.Context(), "n3", []byte(key), 2, time.Time{}, ends))
	}
	if err := a.Spend(t.Context(), "n3", []byte("3"), 2, time.Time{}, ends); !errors.Is(err, identity.ErrToken) {
		t.Errorf("a third of two: %v", err)
	}
	m.fault(etcdtest.Loses)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := a.Spend(ctx, "n2", []byte("one"), 1, time.Time{}, ends); err == nil || errors.Is(err, identity.ErrToken) {
		t.Errorf("%v: nobody knows", err)
	}
	m.fault(etcdtest.Well)
	must(t, b.Spend(t.Context(), "n2", []byte("one"), 1, time.Time{}, ends))
}

func TestATokenThatIsOlderThanTheRestoredStoreIsUsedByNobodyElse(t *testing.T) {
	t.Parallel()
	m := newMesh(t, limits, time.Now)
	a, b := m.add(), m.add()
	made, ends := time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	spend := func(d *hub, nonce, key string, made time.Time) error {
		return d.Spend(t.Context(), nonce, []byte(key), 1, made, ends)
	}
	appstest.Eventually(t, "the store is ready", func() bool { return spend(b, "before", "one", made) == nil })
	backup := m.etcd.Snapshot()
	must(t, spend(a, "n", "one", made))
	must(t, a.put(device("bob", "b"), "web", 1))
	appstest.Eventually(t, "the other hub has seen what is newer", func() bool { n, _ := b.Size(); return n == 1 })
	m.etcd.Restore(backup, false)
	if err := spend(b, "n", "two", made); !errors.Is(err, identity.ErrToken) {
		t.Errorf("at once, at another hub: %v", err)
	}
	appstest.Eventually(t, "the store says that it was restored", func() bool { return len(m.etcd.Keys(m.key("restored"))) == 1 })
	for _, said := range m.etcd.Keys(m.key("restored")) {
		var at unixtime.Seconds
		if err := at.UnmarshalText([]byte(said)); err != nil || at.Time().Before(made) {
			t.Errorf("it says %q: %v", said, err)
		}
	}
	c := m.add()
	appstest.Eventually(t, "a hub that was not there refuses", func() bool { return errors.Is(spend(c, "n", "two", made), identity.ErrToken) })
	appstest.Eventually(t, "a later token is used", func() bool { return spend(b, "later", "one", time.Now().Add(time.Minute)) == nil })
}

func TestARestoredStoreThatFailsOnceMoreIsMarkedAllTheSame(t *testing.T) {
	t.Parallel()
	m := newMesh(t, limits, time.Now)
	m.timeout = 0
	h := &hub{mesh: m, path: filepath.Join(t.TempDir(), "hub.db"), trust: new(list), urls: m.urls}
	client := h.open()
	defer h.db.Close()
	defer client.Close()
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() { // awaited below
		defer close(stopped)
		h.Local.Run(stop)
	}()
	defer func() {
		close(stop)
		<-stopped
	}()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	round := func() { ended <- h.round(ctx) }
	go round()
	appstest.Eventually(t, "the hub follows etcd", func() bool { return h.Status().Relists > 0 })
	backup := m.etcd.Snapshot()
	h.given(device("bob", "b"), "web")
	m.etcd.Restore(backup, false)
	if err := <-ended; !errors.Is(err, etcd.ErrRestored) {
		t.Fatal(err)
	}
	m.member.Set(etcdtest.Alone)
	if err := h.round(ctx); err == nil || errors.Is(err, etcd.ErrRestored) {
		t.Fatalf("without a leader: %v", err)
	}
	m.member.Set(etcdtest.Well)
	go round()
	appstest.Eventually(t, "the store says that it was restored", func() bool { return len(m.etcd.Keys(m.key("restored"))) == 1 })
	cancel()
	<-ended
}

func TestTokensAreForgottenADayAfterTheirEnd(t *testing.T) {
	t.Parallel()
	m := newMesh(t, limits, time.Now)
	a := m.add()
	must(t, a.Spend(t.Context(), "old", []byte("k"), 1, time.Time{}, time.Now().Add(-25*time.Hour)))
	must(t, a.Spend(t.Context(), "new", []byte("k"), 1, time.Time{}, time.Now().Add(-23*time.Hour)))
	a.sweep(t.Context())
	if left := m.etcd.Keys(m.key("token/")); len(left) != 1 || left[m.key("token/new")] == "" {
		t.Errorf("%v", left)
	}
}
