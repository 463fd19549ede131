package control

import (
	"io"
	"log/slog"
	"slices"
	"testing"
	"time"

	"ztm/tunnel"
	"ztm/tunnel/identity"
	"ztm/tunnel/identity/identitytest"
	"ztm/tunnel/limit"
	"ztm/tunnel/unixtime"
)

// hubMaker makes hubs of a mesh.
type hubMaker struct {
	t *testing.T
	*identitytest.Mesh
}

type madeHub struct {
	t *testing.T
	identitytest.Device
}

func newHubMaker(t *testing.T) hubMaker {
	t.Helper()
	return hubMaker{t, identitytest.New(t, time.Now())}
}

func (m hubMaker) hub() madeHub {
	m.t.Helper()
	return madeHub{m.t, m.Hub()}
}

// says is what the hub says of itself, as of a time.
func (h madeHub) says(at unixtime.Millis, names ...string) tunnel.HubEntry {
	h.t.Helper()
	doc, err := identity.SignHubRecord(identity.HubRecord{ID: h.ID, Names: names, Time: at, Certificate: h.DER}, h.Key)
	if err != nil {
		h.t.Fatal(err)
	}
	return tunnel.HubEntry{Record: doc, Online: true}
}

// learner is a Control that learns of hubs of a mesh, and counts what it keeps.
func (m hubMaker) learner(kept [][]byte) (c *Control, saved *[][][]byte) {
	m.t.Helper()
	log := slog.New(slog.DiscardHandler)
	saved = new([][][]byte)
	return New(Config{
		Self: "me", Slots: 2, Hubs: func() []string { return []string{"floor:1"} }, Verifier: m.Verifier(),
		Kept: kept, Keep: func(docs [][]byte) { *saved = append(*saved, docs) }, Log: log, PeerLog: limit.NewLog(log), Life: m.t.Context(),
	}), saved
}

func TestHubsThatSignedWhereTheyAreAreKnownAndKept(t *testing.T) {
	m := newHubMaker(t)
	a, b := m.hub(), m.hub()
	c, saved := m.learner(nil)
	c.learn([]tunnel.HubEntry{a.says(1, "a:1"), b.says(1, "b:1", "b:2")})
	if got := c.Addresses(); len(got) != 4 || !slices.Contains(got, "b:2") || got[3] != "floor:1" {
		t.Errorf("addresses are %v", got)
	}
	if len(*saved) != 1 || len((*saved)[0]) != 2 {
		t.Fatalf("kept %d times", len(*saved))
	}
	again, _ := m.learner((*saved)[0])
	if got := again.Addresses(); len(got) != 4 {
		t.Errorf("after a start addresses are %v", got)
	}
}

func TestARecordThatSaysNothingNewIsNotWritten(t *testing.T) {
	m := newHubMaker(t)
	a := m.hub()
	c, saved := m.learner(nil)
	c.learn([]tunnel.HubEntry{a.says(1, "a:1")})
	for at := range unixtime.Millis(5) {
		c.learn([]tunnel.HubEntry{a.says(at, "a:1")})
	}
	if len(*saved) != 1 {
		t.Errorf("written %d times", len(*saved))
	}
	c.learn([]tunnel.HubEntry{a.says(9, "a:2")})
	c.learn([]tunnel.HubEntry{a.says(8, "a:3")}) // older
	if got := c.Addresses(); len(*saved) != 2 || !slices.Equal(got, []string{"a:2", "floor:1"}) {
		t.Errorf("written %d times, addresses are %v", len(*saved), got)
	}
}

func TestARecordThatItsHubDidNotSignIsRefused(t *testing.T) {
	m := newHubMaker(t)
	a, outsider := m.hub(), newHubMaker(t).hub()
	forged := a.says(1, "a:1")
	forged.Record = slices.Clone(forged.Record)
	forged.Record[slices.Index(forged.Record, ':')+30] ^= 1
	asAnother := m.hub()
	asAnother.Key, asAnother.ID = outsider.Key, outsider.ID
	for what, e := range map[string]tunnel.HubEntry{
		"a changed one": forged, "of another mesh": outsider.says(1, "x:1"), "with another's certificate": asAnother.says(1, "y:1"),
		"nothing": {}, "too long": {Record: make([]byte, identity.MaxHubRecord+1)},
	} {
		c, saved := m.learner(nil)
		c.learn([]tunnel.HubEntry{e})
		if got := c.Addresses(); len(*saved) != 0 || !slices.Equal(got, []string{"floor:1"}) {
			t.Errorf("%s: written %d times, addresses are %v", what, len(*saved), got)
		}
	}
}

func TestMoreHubsThanMayBeAreNotRemembered(t *testing.T) {
	m := newHubMaker(t)
	c, _ := m.learner(nil)
	for range 3 {
		var list []tunnel.HubEntry
		for range tunnel.MaxHubs + 5 {
			list = append(list, m.hub().says(1, "a:1"))
		}
		c.learn(list)
	}
	if len(c.places) > 2*tunnel.MaxHubs+1 {
		t.Errorf("%d hubs are remembered", len(c.places))
	}
}

func TestAHubThatNobodyKnowsAndThatDoesNotAnswerIsForgotten(t *testing.T) {
	m := newHubMaker(t)
	a, b := m.hub(), m.hub()
	c, saved := m.learner(nil)
	c.learn([]tunnel.HubEntry{a.says(1, "a:1"), b.says(1, "b:1")})
	c.learn([]tunnel.HubEntry{a.says(1, "a:1")})
	if c.places[string(b.ID)] == nil {
		t.Fatal("it is forgotten at one hub's word")
	}
	c.places[string(b.ID)].failed = true
	c.learn([]tunnel.HubEntry{a.says(1, "a:1")})
	if c.places[string(b.ID)] != nil || len(*saved) != 2 || len((*saved)[1]) != 1 {
		t.Errorf("it is there; kept %d times", len(*saved))
	}
}

func TestPermitsHaveTheAddressesOfAllHubsInDifferentOrders(t *testing.T) {
	m := newHubMaker(t)
	c, _ := m.learner(nil)
	if got := c.Bootstraps(); !slices.Equal(got, []string{"floor:1"}) {
		t.Errorf("with one hub: %v", got)
	}
	c.learn([]tunnel.HubEntry{m.hub().says(1, "a:1", "a:2"), m.hub().says(1, "b:1", "b:2"), m.hub().says(1, "floor:1")})
	first := map[string]int{}
	for range 100 {
		got := c.Bootstraps()
		if len(got) != 5 || !slices.Contains(got, "a:2") || slices.Contains(got[:3], "a:2") || slices.Contains(got[:3], "b:2") {
			t.Fatalf("%v", got)
		}
		first[got[0]]++
	}
	if len(first) != 3 {
		t.Errorf("first are %v", first)
	}
}

func TestAHubThatWasEvictedIsForgottenWhenItsSessionHasEnded(t *testing.T) {
	m := newHubMaker(t)
	a := m.hub()
	c, _ := m.learner(nil)
	c.learn([]tunnel.HubEntry{a.says(1, "a:1")})
	l := newLink(c, c.places[string(a.ID)], time.Now())
	c.links = append(c.links, l)
	evicted, err := m.Trust.EvictAll(m.CA, time.Now(), identity.Eviction{ID: a.ID, Hub: true, Admitted: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	c.Verifier.Set(evicted)
	c.LeaveHubs(func(identity.Subject) bool { return true })
	c.ended(l, io.EOF)
	if got := c.Addresses(); !slices.Equal(got, []string{"floor:1"}) {
		t.Errorf("addresses are %v", got)
	}
}

func TestAHubThatIsYetToGetACertificateOfANewCAIsNotForgottenWhenItsSessionHasEnded(t *testing.T) {
	m := newHubMaker(t)
	a, now := m.hub(), time.Now()
	c, _ := m.learner(nil)
	c.learn([]tunnel.HubEntry{a.says(1, "a:1")})
	l := newLink(c, c.places[string(a.ID)], now)
	c.links = append(c.links, l)
	next, err := m.CA.Successor(now)
	if err != nil {
		t.Fatal(err)
	}
	rotated, err := m.Trust.Rotate(m.CA, next, now, now)
	if err != nil {
		t.Fatal(err)
	}
	c.Verifier.Set(rotated)
	if _, _, err := c.Verifier.HubRecord(l.place.doc); err == nil {
		t.Fatal("its certificate is good still")
	}
	c.LeaveHubs(func(identity.Subject) bool { return true })
	c.ended(l, errNoHub)
	if got := c.Addresses(); !slices.Contains(got, "a:1") {
		t.Errorf("addresses are %v", got)
	}
}
