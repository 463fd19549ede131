package hub

import (
	"context"
	"net"
	"testing"
	"time"

	"ztm/hub/limits"
	"ztm/tunnel"
	"ztm/tunnel/identity"
	"ztm/tunnel/identity/identitytest"
)

// evict evicts a user, by the next version of the hub's list, which any member may bring.
func (h *testHub) evict(by *online, user string) *identity.Trust {
	h.t.Helper()
	next := h.nextTrust(by, user)
	if err := by.Call(context.Background(), "POST", tunnel.PathTrust, nil, next.Document(), nil); err != nil {
		h.t.Fatal(err)
	}
	return next
}

// nextTrust makes the next version of the hub's list, in which a user is evicted.
func (h *testHub) nextTrust(by *online, user string) *identity.Trust {
	h.t.Helper()
	var doc []byte
	if err := by.Call(context.Background(), "GET", tunnel.PathTrust, nil, nil, &doc); err != nil {
		h.t.Fatal(err)
	}
	now, err := identity.ParseTrust(h.ca.CertificatePEM(), doc)
	if err != nil {
		h.t.Fatal(err)
	}
	next, err := now.Evict(h.ca, user, time.Now())
	if err != nil {
		h.t.Fatal(err)
	}
	return next
}

func TestAnEvictedUserIsOutAtOnce(t *testing.T) {
	dir := t.TempDir()
	h := startIn(t, dir, func(c *Config) { c.drain = time.Millisecond })
	alice, bob, carol := h.device("alice").online("a"), h.device("bob").online("b"), h.device("carol").online("c")
	bob2 := h.device("bob").session() // a session without events
	aNear, aFar := pair(t, alice, bob, openers["connection"], openers["connection"])
	bNear, bFar := pair(t, bob, alice, openers["connection"], openers["connection"])
	sNear, sFar := pair(t, bob, alice, openers["stream"], openers["connection"])
	okNear, okFar := pair(t, alice, carol, openers["connection"], openers["connection"])
	leg, err := tlsLeg(bob.device) // has not said yet what it is
	if err != nil {
		t.Fatal(err)
	}
	defer leg.Close()

	h.evict(alice, "bob")

	wait(t, "the session of an evicted user ends", bob.Done())
	wait(t, "every session of an evicted user ends", bob2.Done())
	for name, c := range map[string]net.Conn{
		"to bob": aNear, "at bob": aFar, "from bob": bFar, "bob's": bNear, "from bob's stream": sFar, "bob's stream": sNear, "bob's leg": leg,
	} {
		if s, ok := c.(*net.TCPConn); ok {
			s.SetReadDeadline(time.Now().Add(timeout))
		}
		if _, err := c.Read(make([]byte, 1)); err == nil || isTimeout(err) {
			t.Errorf("the path %s stands: %v", name, err)
		}
	}
	okNear.Write([]byte("x"))
	if _, err := okFar.Read(make([]byte, 1)); err != nil {
		t.Errorf("a path of others was cut: %v", err)
	}
	if got := names(t, alice.Session); len(got) != 2 {
		t.Errorf("the directory has %q", got)
	}
	for e := carol.next(tunnel.EventTrust); e.Version != 1; e = carol.next(tunnel.EventTrust) {
		if e.Type == "" {
			t.Fatal("others are not told")
		}
	}
	if h.try(bob.config(tunnel.ControlProto)) == nil || h.try(bob.config(tunnel.RelayProto)) == nil {
		t.Error("an evicted user gets in")
	}

	// The user may come back by a new invitation, and the eviction outlives the hub's process.
	h.stop()
	h = startIn(t, dir)
	bob.hub = h
	if h.try(bob.config(tunnel.ControlProto)) == nil {
		t.Error("after a restart an evicted user gets in")
	}
	invited := h.deviceAt("bob", time.Now().Add(time.Minute), time.Now())
	if err := invited.put(invited.session(), invited.record("b")); err != nil {
		t.Errorf("a user who was invited again: %v", err)
	}
}

func TestATrustListThatIsNotNewerIsRefused(t *testing.T) {
	h := start(t)
	alice := h.device("alice").online("a")
	v0, err := identity.NewTrust(h.ca.CertificatePEM())
	if err != nil {
		t.Fatal(err)
	}
	other, err := v0.Evict(h.ca, "somebody", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	v1 := h.evict(alice, "bob")
	v2 := h.evict(alice, "carol")
	outsider := identitytest.New(t, time.Now())
	foreign, err := outsider.Trust.Evict(outsider.CA, "alice", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	post := func(doc []byte) error {
		return alice.Call(t.Context(), "POST", tunnel.PathTrust, nil, doc, nil)
	}
	wantRefusal(t, post(v1.Document()), 409, "roll-back refused")
	wantRefusal(t, post(other.Document()), 409, "differ") // it has an eviction that the hub's lacks
	wantRefusal(t, post(nil), 409, "roll-back refused")
	wantRefusal(t, post(foreign.Document()), 400, "another mesh")
	wantRefusal(t, post([]byte(`{"payload":{},"signature":""}`)), 400, "trust list")
	altered := append([]byte(nil), h.nextTrust(alice, "dave").Document()...)
	altered[len(altered)/3] ^= 1
	if post(altered) == nil {
		t.Error("an altered list was taken")
	}
	if err := post(v2.Document()); err != nil {
		t.Errorf("the list in force: %v", err)
	}
	var doc []byte
	if err := alice.Call(t.Context(), "GET", tunnel.PathTrust, nil, nil, &doc); err != nil || string(doc) != string(v2.Document()) {
		t.Errorf("the list in force changed: %v", err)
	}
}

func TestListsThatDifferAreShownToHoldersOfTheCAKey(t *testing.T) {
	h := start(t)
	alice, root := h.device("alice").online("a"), h.device("root").online("r")
	v0, err := identity.NewTrust(h.ca.CertificatePEM())
	if err != nil {
		t.Fatal(err)
	}
	other, err := v0.Evict(h.ca, "mallory", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	own := h.evict(root, "bob")
	post := func(by *online, list *identity.Trust) error {
		return by.Call(t.Context(), "POST", tunnel.PathTrust, nil, list.Document(), nil)
	}
	wantRefusal(t, post(alice, other), 409, "differ")
	sum := other.Head().Sum
	if e := root.next(tunnel.EventFork); e.Sum != sum {
		t.Fatalf("a holder of the CA key is told of %q, want %q", e.Sum, sum)
	}
	later := h.device("root").online("r2")
	if e := later.next(tunnel.EventFork); e.Sum != sum {
		t.Errorf("one that comes later is told of %q", e.Sum)
	}
	fetch := func(by *online) (doc []byte, err error) {
		err = by.Call(t.Context(), "GET", tunnel.PathTrust+"/"+sum, nil, nil, &doc)
		return doc, err
	}
	if doc, err := fetch(root); err != nil || string(doc) != string(other.Document()) {
		t.Errorf("it gets %.40q, %v", doc, err)
	}
	_, err = fetch(alice)
	wantRefusal(t, err, 403, "only endpoints of user root")
	united, err := own.Unite(h.ca, time.Now(), other.Document())
	if err != nil {
		t.Fatal(err)
	}
	if err := post(root, united); err != nil {
		t.Fatal(err)
	}
	_, err = fetch(root)
	wantRefusal(t, err, 404, "no trust list")
}

// A lock held while a large list is read would let any member keep an eviction out.
func TestASlowTrustListDoesNotHoldUpAnother(t *testing.T) {
	h := start(t)
	alice := h.device("alice").online("a")
	slow := newRawClient(t, h.device("eve"))
	slow.post(1, tunnel.PathTrust)
	h.evict(alice, "bob")
}

func TestBodiesThatDoNotArriveKeepNoOtherUserOut(t *testing.T) {
	h := start(t)
	p := newHonest(t, h)
	for range 2 * limits.ListsAtOnce {
		newRawClient(t, h.device("eve")).post(1, tunnel.PathTrust)
	}
	for range 4 {
		eve := h.device("eve")
		f := newRawClient(t, eve)
		for stream := range uint32(90) {
			f.must(f.frame(frameHeaders, flagEndHeaders, 2*stream+1, block("PUT", tunnel.PathEndpoints+"/"+string(eve.id))))
		}
	}
	for range 3 {
		h.evict(p.a, "nobody")
		if err := p.a.put(p.a.Session, p.a.record("honest-a")); err != nil {
			t.Errorf("a record of another user: %v", err)
		}
	}
	p.works(t)
}
