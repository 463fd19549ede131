package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ztm/apps/appstest"
	"ztm/hub/directory"
	"ztm/store"
	"ztm/store/etcd/etcdtest"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	"ztm/tunnel/unixtime"
)

// device is who puts a record.
func device(user, key string) identity.Subject {
	return identity.Subject{ID: identity.IDOf([]byte(key)), User: user, NotBefore: time.Unix(1000, 0), NotAfter: time.Unix(2000, 0)}
}

// put puts a record of a device under a name, at a time in milliseconds.
func (h *hub) put(by identity.Subject, name string, at unixtime.Millis) error {
	doc := fmt.Appendf(nil, "%s %s %d", by.ID, name, at)
	return signing{h.Directory, h.mesh}.Put(doc, identity.Record{ID: by.ID, Name: name, Time: at}, by)
}

// given puts the first record of a device. It is for a mesh whose timeout may be less than this
// machine needs.
func (h *hub) given(by identity.Subject, name string) {
	h.mesh.t.Helper()
	appstest.Eventually(h.mesh.t, by.User+" has the name "+name, func() bool { return h.put(by, name, 1) == nil })
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (m *mesh) key(part string) string { return prefixOf(identity.IDOf([]byte("mesh"))) + part }

// fault breaks etcd, or mends it.
func (m *mesh) fault(f etcdtest.Fault) {
	m.member.Set(f)
	m.away = f != etcdtest.Well
}

func TestOneOfManyGetsAName(t *testing.T) {
	t.Parallel()
	m := newMesh(t, limits, time.Now)
	hubs := []*hub{m.add(), m.add(), m.add()}
	var won atomic.Int32
	var all sync.WaitGroup
	for i := range 30 {
		all.Go(func() {
			err := hubs[i%3].put(device("bob", fmt.Sprint(i)), "web", 1)
			switch {
			case err == nil:
				won.Add(1)
			case answer.CodeOf(err) != answer.Conflict:
				t.Error(err)
			}
		})
	}
	if all.Wait(); won.Load() != 1 {
		t.Errorf("%d have the name", won.Load())
	}
}

func TestWithoutEtcdKnownNamesGoOnAndNewOnesWait(t *testing.T) {
	appstest.Long(t)
	t.Parallel()
	m := newMesh(t, limits, time.Now)
	m.timeout = 0
	a, b := m.add(), m.add()
	bob, alice := device("bob", "b"), device("alice", "a")
	a.given(bob, "web")
	m.fault(etcdtest.Alone)
	if err := a.put(alice, "box", 1); answer.CodeOf(err) != answer.Unavailable {
		t.Errorf("a new name: %v", err)
	}
	by := bob
	by.Admitted = time.Unix(5, 0) // so that it says something new
	must(t, a.put(by, "web", 2))
	if _, err := a.Remove(true, func(s identity.Subject) bool { return s.User == "nobody" }); err != nil {
		t.Error(err)
	}
	if a.Status().Owed != 1 {
		t.Errorf("%+v", a.Status())
	}
	m.fault(etcdtest.Well)
	appstest.Eventually(t, "the other hub hears of it", func() bool {
		e, err := b.Entry(bob.ID)
		return err == nil && strings.HasSuffix(string(e.Record), " 2") && a.Status().Owed == 0
	})
	a.given(alice, "box")
}

func TestAnEndpointThatIsRemovedWithoutEtcdIsGoneEverywhereOnceItIsBack(t *testing.T) {
	t.Parallel()
	m := newMesh(t, limits, time.Now)
	m.timeout = 0
	a, b := m.add(), m.add()
	bob := device("bob", "b")
	a.given(bob, "web")
	appstest.Eventually(t, "the other hub hears of it", func() bool { return b.Name(bob.ID) == "web" })
	m.fault(etcdtest.Alone)
	if n, err := a.Remove(true, func(identity.Subject) bool { return true }); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	if a.Name(bob.ID) != "" {
		t.Error("it is still there")
	}
	m.fault(etcdtest.Well)
	appstest.Eventually(t, "the other hub hears of it", func() bool { return b.Name(bob.ID) == "" })
	if err := b.put(device("alice", "a"), "web", 1); answer.CodeOf(err) != answer.Conflict {
		t.Errorf("its name is not kept: %v", err)
	}
}

func TestAHubThatIsCutOffFromEtcdHearsOfNewEndpointsFromOthersUntilItIsBack(t *testing.T) {
	appstest.Long(t)
	t.Parallel()
	m := newMesh(t, limits, time.Now)
	m.timeout = 0
	a := m.add()
	other := m.etcd.Start()
	t.Cleanup(other.Close)
	m.urls = []string{other.URL}
	b := m.add()
	bob, alice, carol := device("bob", "b"), device("alice", "a"), device("carol", "c")
	appstest.Eventually(t, "both have etcd", func() bool { return a.Status().Up && b.Status().Up })
	other.Set(etcdtest.Alone)
	appstest.Eventually(t, "a hub notes that etcd is away", func() bool { return !b.Status().Up })
	a.given(bob, "web")
	b.hears(bob, "web", 1)
	b.hears(carol, "box", 1) // the other hub says so, and etcd does not
	if b.Name(bob.ID) != "web" || b.Name(carol.ID) != "box" {
		t.Errorf("%q %q", b.Name(bob.ID), b.Name(carol.ID))
	}
	if holder := b.hears(alice, "web", 1); holder != bob.ID || b.Name(alice.ID) != "" {
		t.Errorf("the name of another endpoint was given away: %q has it, alice %q", holder, b.Name(alice.ID))
	}
	other.Set(etcdtest.Well)
	appstest.Eventually(t, "what etcd has not got is gone", func() bool { return b.Name(carol.ID) == "" })
	if b.Name(bob.ID) != "web" {
		t.Error("what etcd has is gone, too")
	}
	other.Set(etcdtest.Alone)
	m.away = true
	b.stop()
	b.start()
	if b.Name(bob.ID) != "web" {
		t.Error("the hub that starts from its copy has not got it")
	}
}

func TestAHubStartsFromItsCopyWithoutEtcd(t *testing.T) {
	t.Parallel()
	m := newMesh(t, limits, time.Now)
	a := m.add()
	bob := device("bob", "b")
	must(t, a.put(bob, "web", 1))
	m.fault(etcdtest.Alone)
	m.restart()
	if a.Name(bob.ID) != "web" {
		t.Error("it has forgotten an endpoint")
	}
	detach, err := a.Attach(bob.ID, "10.0.0.1:1", func() { t.Error("it was ended") })
	must(t, err)
	m.fault(etcdtest.Well)
	appstest.Eventually(t, "it follows etcd", func() bool { return a.Status().Relists > 0 })
	if e, err := a.Entry(bob.ID); err != nil || !e.Online {
		t.Errorf("%+v, %v", e, err)
	}
	detach()
}

func TestAnAnswerThatGotLostIsReadBack(t *testing.T) {
	t.Parallel()
	m := newMesh(t, limits, time.Now)
	a := m.add()
	m.fault(etcdtest.Loses)
	time.AfterFunc(500*time.Millisecond, func() { m.member.Set(etcdtest.Well) })
	must(t, a.put(device("bob", "b"), "web", 1))
	if n := m.etcd.Keys(m.key("name/web")); len(n) != 1 {
		t.Errorf("%v", n)
	}
}

func TestAClaimThatMayHaveBeenDecidedIsNotSaidToHaveFailed(t *testing.T) {
	t.Parallel()
	m := newMesh(t, limits, time.Now)
	m.timeout = 0
	a := m.add()
	bob := device("bob", "b")
	appstest.Eventually(t, "the store is ready", func() bool { return a.isReady() })
	m.fault(etcdtest.Loses)
	if err := a.put(bob, "web", 1); answer.CodeOf(err) != answer.Timeout {
		t.Errorf("%v", err)
	}
	m.fault(etcdtest.Well)
	a.given(bob, "web")
}

func TestWhatIsNotSignedIsNotBelieved(t *testing.T) {
	t.Parallel()
	m := newMesh(t, limits, time.Now)
	a := m.add()
	bob, alice, eve := device("bob", "b"), device("alice", "a"), device("eve", "e")
	must(t, a.put(bob, "web", 1))
	must(t, a.put(alice, "box", 1))
	attach := func(id identity.ID) {
		_, err := a.Attach(id, "10.0.0.1:1", func() { t.Errorf("%s was ended", id) })
		must(t, err)
	}
	attach(bob.ID)
	attach(alice.ID)
	evil := fmt.Appendf(nil, "%s evil 1", eve.ID)
	m.sign(evil, identity.Record{ID: eve.ID, Name: "evil", Time: 1}, eve)
	for key, value := range map[string]string{
		"ep/" + string(bob.ID):   "a lie",
		"ep/" + string(alice.ID): string(evil), // signed, by another
		"ep/" + string(eve.ID):   string(evil), // signed, and nobody gave it the name
		"ep/../../x":             "x",
		"name/cat":               "not JSON",
		"name/\x1b[31m":          `{"id":"x"}`,
		"name/dog":               strings.Repeat("x", 1<<20),
		"trust/head":             "garbage",
		"something":              "new",
	} {
		m.etcd.Set(m.key(key), []byte(value))
	}
	appstest.Eventually(t, "it is refused", func() bool { return a.Status().Refused >= 5 })
	for id, name := range map[identity.ID]string{bob.ID: "web", alice.ID: "box", eve.ID: ""} {
		if got := a.Name(id); got != name {
			t.Errorf("%s has the name %q, want %q", id, got, name)
		}
	}
	if err := a.put(device("carol", "c"), "cat", 1); answer.CodeOf(err) != answer.Conflict {
		t.Errorf("a name of which nobody knows whose it is was given: %v", err)
	}
	changed := bob
	changed.Admitted = time.Unix(7, 0)
	must(t, a.put(changed, "web", 2)) // its endpoint puts it right
	appstest.Eventually(t, "it is put right", func() bool {
		return strings.HasSuffix(m.etcd.Keys(m.key("ep/" + string(bob.ID)))[m.key("ep/"+string(bob.ID))], " 2")
	})
}

func TestEtcdThatWasRestoredGetsBackWhatIsAttached(t *testing.T) {
	appstest.Long(t)
	t.Parallel()
	m := newMesh(t, limits, time.Now)
	a := m.add()
	bob, alice := device("bob", "b"), device("alice", "a")
	must(t, a.put(bob, "web", 1))
	backup := m.etcd.Snapshot()
	must(t, a.put(alice, "box", 1))
	_, err := a.Attach(alice.ID, "10.0.0.1:1", func() { t.Error("it was ended") })
	must(t, err)
	m.etcd.Restore(backup, false)
	appstest.Eventually(t, "etcd has both again", func() bool { return len(m.etcd.Keys(m.key("ep/"))) == 2 && a.Status().Owed == 0 })
}

func TestAWatchThatLostItsPlaceIsBegunAnew(t *testing.T) {
	appstest.Long(t)
	t.Parallel()
	m := newMesh(t, limits, time.Now)
	m.timeout = 0
	a, b := m.add(), m.add()
	a.given(device("bob", "b"), "web")
	before := b.Status().Relists
	m.member.Set(etcdtest.Frozen)
	appstest.Eventually(t, "the hubs notice", func() bool { return !a.Status().Up && !b.Status().Up })
	m.etcd.Set(m.key("name/web"), []byte("x"))
	m.etcd.Set(m.key("other"), nil)
	m.etcd.Compact()
	m.member.Set(etcdtest.Well)
	appstest.Eventually(t, "all is read again", func() bool { return b.Status().Relists > before && a.Status().Refused > 0 })
}

func TestTheStoreOfAnotherMeshIsRefused(t *testing.T) {
	t.Parallel()
	m := newMesh(t, limits, time.Now)
	m.etcd.Set(m.key("meta"), []byte(`{"schema":99,"mesh":"other","state":"ready"}`))
	m.away = true
	a := m.add()
	if err := a.Begin(t.Context()); !errors.Is(err, ErrForeign) {
		t.Errorf("%v", err)
	}
	if err := a.put(device("bob", "b"), "web", 1); answer.CodeOf(err) != answer.Unavailable || len(m.etcd.Keys(m.key("ep/"))) != 0 {
		t.Errorf("%v", err)
	}
}

func TestTheFirstHubBringsWhatItHas(t *testing.T) {
	t.Parallel()
	m := newMesh(t, limits, time.Now)
	m.away = true
	m.member.Set(etcdtest.Alone)
	a := m.add()
	for i := range 100 {
		by := device("bob", fmt.Sprint(i))
		doc := fmt.Appendf(nil, "%s ep-%d 1", by.ID, i)
		rec := identity.Record{ID: by.ID, Name: fmt.Sprint("ep-", i), Time: 1}
		m.sign(doc, rec, by)
		must(t, a.Local.Put(doc, rec, by))
	}
	if _, err := a.Local.Remove(true, func(s identity.Subject) bool { return s.ID == device("", "7").ID }); err != nil {
		t.Fatal(err)
	}
	m.fault(etcdtest.Well)
	appstest.Eventually(t, "it follows etcd", func() bool { return a.Status().Relists > 0 })
	b := m.add()
	if all, _ := b.Size(); all != 99 {
		t.Errorf("the other hub has %d", all)
	}
	if err := b.put(device("alice", "a"), "ep-7", 1); answer.CodeOf(err) != answer.Conflict {
		t.Errorf("a name that was kept is kept no longer: %v", err)
	}
	if all, _ := a.Size(); all != 99 {
		t.Errorf("it has %d left itself", all)
	}
}

func TestAHubThatComesLaterBringsWhatIsStillFree(t *testing.T) {
	t.Parallel()
	m := newMesh(t, limits, time.Now)
	b := m.add()
	must(t, b.put(device("alice", "a"), "box", 1))
	m.fault(etcdtest.Alone)
	a := m.add()
	for name, by := range map[string]identity.Subject{"web": device("bob", "b"), "box": device("bob", "c")} {
		doc := fmt.Appendf(nil, "%s %s 1", by.ID, name)
		rec := identity.Record{ID: by.ID, Name: name, Time: 1}
		m.sign(doc, rec, by)
		must(t, a.Local.Put(doc, rec, by))
	}
	m.fault(etcdtest.Well)
	for _, h := range m.hubs {
		appstest.Eventually(t, "each name has its holder", func() bool {
			all, _ := h.Size()
			return all == 2 && h.Name(device("", "b").ID) == "web" && h.Name(device("", "a").ID) == "box"
		})
	}
}

// agree has a hub write its trust list down. On a machine that does much else a megabyte may take
// longer than an attempt has.
func agree(t *testing.T, h *hub) {
	t.Helper()
	appstest.Eventually(t, "the list is written", func() bool { return h.Agree(t.Context(), nil) == nil })
}

func TestATrustListGoesFromHubToHub(t *testing.T) {
	m := newMesh(t, limits, time.Now)
	a, b := m.add(), m.add()
	first := append([]byte("list:"), bytes.Repeat([]byte("x"), pieceSize)...) // two pieces
	must(t, a.trust.Take(first))
	agree(t, a)
	appstest.Eventually(t, "the other hub has it", func() bool { return bytes.Equal(b.trust.Document(), first) })
	second := append(bytes.Clone(first), 'y')
	must(t, b.trust.Take(second))
	agree(t, b)
	appstest.Eventually(t, "the first hub has the next", func() bool { return bytes.Equal(a.trust.Document(), second) })
	agree(t, a)
	if n := len(m.etcd.Keys(m.key("trust/doc/"))); n != 2 {
		t.Errorf("%d pieces", n)
	}
}

func TestATrustListThatForgetsIsNotTaken(t *testing.T) {
	t.Parallel()
	m := newMesh(t, limits, time.Now)
	a, b := m.add(), m.add()
	must(t, a.trust.Take([]byte("list: bob is out")))
	must(t, a.Agree(t.Context(), nil))
	appstest.Eventually(t, "the other hub has it", func() bool { return b.trust.Document() != nil })
	m.fault(etcdtest.Alone)
	must(t, a.trust.Take([]byte("list: bob is out, and eve")))
	must(t, b.trust.Take([]byte("list: bob is out, and mallory")))
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := a.Agree(ctx, nil); err == nil {
		t.Error("all agree without etcd")
	}
	m.fault(etcdtest.Well)
	must(t, a.Agree(t.Context(), nil))
	if err := b.Agree(t.Context(), nil); !errors.Is(err, errFork) {
		t.Errorf("%v", err)
	}
	if !strings.HasSuffix(string(a.trust.Document()), "eve") || !strings.HasSuffix(string(b.trust.Document()), "mallory") {
		t.Error("one has forgotten what it knew")
	}
}

func TestNothingIsWrittenAtRest(t *testing.T) {
	t.Parallel()
	m := newMesh(t, limits, time.Now)
	a := m.add()
	bob := device("bob", "b")
	must(t, a.put(bob, "web", 1))
	appstest.Eventually(t, "it says that it lives", func() bool { return len(m.etcd.Keys(m.key("live/"))) == 1 })
	before := m.etcd.Writes()
	for at := range unixtime.Millis(50) {
		must(t, a.put(bob, "web", at+2))
	}
	if n := m.etcd.Writes(); n != before {
		t.Errorf("%d writes for nothing new", n-before)
	}
}

func TestAHubThatLeavesTheStoreHasACopyOfItsOwn(t *testing.T) {
	t.Parallel()
	m := newMesh(t, limits, time.Now)
	a, b := m.add(), m.add()
	must(t, a.put(device("bob", "b"), "web", 1))
	appstest.Eventually(t, "the other hub hears of it", func() bool { all, _ := b.Size(); return all == 1 })
	for _, want := range []bool{true, false} {
		if was, err := Leave(b.db, identity.IDOf([]byte("mesh"))); was != want || err != nil {
			t.Errorf("%v, %v", was, err)
		}
	}
	b.stop()
	db, err := store.Open(b.path, nil, store.Options{})
	must(t, err)
	defer db.Close()
	alone, err := directory.Open(db, limits, time.Now)
	must(t, err)
	if alone.Name(device("", "b").ID) != "web" {
		t.Error("it has no copy")
	}
}
