package authority

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"testing"
	"time"

	"ztm/agent/control"
	"ztm/agent/limits"
	"ztm/apps/appstest"
	"ztm/tunnel"
	"ztm/tunnel/identity"
	"ztm/tunnel/identity/identitytest"
	"ztm/tunnel/inflight"
	"ztm/tunnel/limit"
)

func TestMain(m *testing.M) { os.Exit(appstest.Run(m)) }

// memoryBook is a membership in memory.
type memoryBook struct {
	Book // what a test does not expect to be called
	row  Row
}

func (b *memoryBook) Membership() Row              { return b.row }
func (b *memoryBook) Save(change func(*Row)) error { change(&b.row); return nil }

// newTestAuthority is the authority of a membership of a user, whose certificate is made at a time.
// There is no hub and no peer.
func newTestAuthority(t *testing.T, user string, made time.Time) (*Authority, *identity.CA) {
	t.Helper()
	m := identitytest.New(t, made)
	d := m.Member(user)
	row := Row{CA: string(m.CA.CertificatePEM()), Certificate: d.DER}
	if user == RootUser {
		row.CAKey = string(m.CA.KeyPEM())
	}
	life, end := context.WithCancel(context.Background())
	t.Cleanup(end)
	log := slog.New(slog.DiscardHandler)
	a, err := New(Config{
		Self: d.ID, Key: d.Key, Log: log, PeerLog: limit.NewLog(log), Verifier: m.Verifier(),
		Book: &memoryBook{row: row}, Work: &inflight.Tracker{}, Life: life,
		Ends: func(user string) time.Time { return ends[user] }, TrustChanged: func() {},
	})
	if err != nil {
		t.Fatal(err)
	}
	return a, m.CA
}

// rotated puts the next CA of a mesh in force, which its endpoint with the CA key has made.
func (a *Authority) rotated(t *testing.T, ca *identity.CA, grace time.Duration) *identity.CA {
	t.Helper()
	next, err := ca.Successor(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	trust, err := a.Verifier.Trust().Rotate(ca, next, time.Now().Add(grace), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	a.Verifier.Set(trust)
	return next
}

func TestAnEvictionThatALaterListHoldsIsDone(t *testing.T) {
	a, ca := newTestAuthority(t, RootUser, time.Now())
	first, err := a.Verifier.Trust().Evict(ca, "bob", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	later, err := first.Evict(ca, "eve", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	a.Verifier.Set(later)
	if err := a.enforce(first); err != nil || a.Verifier.Trust() != later {
		t.Errorf("%v, version %d is in force", err, a.Verifier.Trust().Version())
	}
}

func TestARenewalOfAHubDoesNotOutliveAnEvictionOfIt(t *testing.T) {
	now := time.Now()
	a, ca := newTestAuthority(t, RootUser, now.Add(-48*time.Hour))
	key, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	public := key.Public().(ed25519.PublicKey)
	first, err := ca.SignHub(public, now.Add(-48*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	hub, err := a.Verifier.Certificate(first, identity.RoleHub)
	if err != nil {
		t.Fatal(err)
	}
	evicted, err := a.Verifier.Trust().EvictAll(ca, now.Add(-24*time.Hour), identity.Eviction{ID: hub.ID, Hub: true, Admitted: hub.Admitted})
	if err != nil {
		t.Fatal(err)
	}
	// The hub keeps the eviction from this endpoint, and asks as after a rotation of the key.
	hub.Issuer = "another"
	renewed, err := a.sign(hub, &tunnel.SignRequest{Hub: true})
	if err != nil {
		t.Fatal(err)
	}
	a.Verifier.Set(evicted)
	if _, err := a.Verifier.Certificate(renewed, identity.RoleHub); !errors.Is(err, identity.ErrEvicted) {
		t.Errorf("what it was given is good: %v", err)
	}
}

func TestAHubIsRenewedThroughAnotherByItsOwnCertificateAlone(t *testing.T) {
	now := time.Now()
	a, ca := newTestAuthority(t, RootUser, now.Add(-identity.HubLifetime))
	hub := func(signer *identity.CA, signed time.Time) (der []byte, s identity.Subject) {
		key, err := identity.NewKey()
		if err != nil {
			t.Fatal(err)
		}
		if der, err = signer.SignHub(key.Public().(ed25519.PublicKey), signed); err != nil {
			t.Fatal(err)
		}
		s, _ = a.Verifier.Certificate(der, identity.RoleHub)
		return der, s
	}
	old, want := hub(ca, now.Add(-identity.HubLifetime*3/4))
	young, between := hub(ca, now)
	_, foreign := newTestAuthority(t, RootUser, now.Add(-identity.HubLifetime))
	strange, _ := hub(foreign, now.Add(-identity.HubLifetime*3/4))
	der, err := a.sign(between, &tunnel.SignRequest{Hub: true, Of: old})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := a.Verifier.Certificate(der, identity.RoleHub); err != nil || got.ID != want.ID || !got.Admitted.Equal(want.Admitted) {
		t.Errorf("%+v, %v", got, err)
	}
	for name, of := range map[string][]byte{"one that is not due": young, "one of another mesh": strange, "none": []byte("x")} {
		if _, err := a.sign(want, &tunnel.SignRequest{Hub: true, Of: of}); err == nil {
			t.Errorf("%s is renewed", name)
		}
	}
}

func TestAHubThatAnswersIsAskedBeforeOneThatMayBeSilent(t *testing.T) {
	stands := &tunnel.Session{}
	hubs := []control.Hub{{ID: "gone", Failed: true}, {ID: "hangs", Session: stands, Suspect: true}, {ID: "unmet"}, {ID: "second", Session: stands}, {ID: "third", Session: stands}}
	var got []identity.ID
	for _, h := range soonestFirst(hubs) {
		got = append(got, h.ID)
	}
	if want := []identity.ID{"second", "third", "unmet", "gone", "hangs"}; !slices.Equal(got, want) {
		t.Errorf("they are asked in the order %v, want %v", got, want)
	}
}

func TestAHubThatWasEvictedIsInvitedAgain(t *testing.T) {
	a, ca := newTestAuthority(t, RootUser, time.Now())
	a.Control = control.New(control.Config{Hubs: func() []string { return []string{"hub:1"} }})
	key, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	public := key.Public().(ed25519.PublicKey)
	evicted, err := a.Verifier.Trust().EvictAll(ca, time.Now(), identity.Eviction{ID: identity.IDOf(public), Hub: true, Admitted: time.Now().Add(evictionMargin)})
	if err != nil {
		t.Fatal(err)
	}
	a.Verifier.Set(evicted)
	permit, err := a.InviteHub(public, nil)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode([]byte(permit.Hub.Certificate))
	if _, err := a.Verifier.Certificate(block.Bytes, identity.RoleHub); err != nil {
		t.Errorf("its permit: %v", err)
	}
}

func TestARenewalWaitsForItsTime(t *testing.T) {
	a, ca := newTestAuthority(t, "bob", time.Now())
	if got := a.renewIfDue(); got != renewEvery {
		t.Errorf("a new certificate is looked at again in %v", got)
	}
	if got := a.spread(); got != renewEvery {
		t.Errorf("of the newest CA it waits %v", got)
	}
	a.rotated(t, ca, time.Hour)
	for range 100 {
		if got := a.spread(); got < 0 || got > time.Hour/100 {
			t.Fatalf("with an hour of grace a renewal waits %v", got)
		}
	}
	if got := a.untilRetirement(); got <= 0 || got > time.Hour {
		t.Errorf("the old CA retires in %v", got)
	}
}

func TestMembersOfALongGraceDoNotAllComeAtOnceNorLate(t *testing.T) {
	a, ca := newTestAuthority(t, "bob", time.Now())
	a.rotated(t, ca, 300*24*time.Hour)
	longest := time.Duration(0)
	for range 1000 {
		longest = max(longest, a.spread())
	}
	if longest > maxSpread || longest < maxSpread/2 {
		t.Errorf("of a thousand members the last comes after %v, want up to %v", longest, maxSpread)
	}
}

func TestTheEndpointThatSignsRenewsItsOwnAtOnce(t *testing.T) {
	a, ca := newTestAuthority(t, RootUser, time.Now())
	if !a.Signs() {
		t.Fatal("it has no CA key")
	}
	next := a.rotated(t, ca, time.Hour)
	if _, err := a.Signer(); a.Signs() || err == nil {
		t.Error("it signs by the CA that was replaced")
	}
	a.setCA(next)
	if got := a.spread(); got != 0 {
		t.Errorf("it waits %v", got)
	}
}

func TestARenewedCertificateMustBeGoodNow(t *testing.T) {
	const day = 24 * time.Hour
	now := time.Now()
	a, ca := newTestAuthority(t, "bob", now.Add(-300*day))
	own := a.Own()
	sign := func(at time.Time) []byte {
		der, err := ca.SignMember(own.Key, own.User, own.Admitted, at)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	if err := a.checkRenewed(sign(now.Add(60*day)), own); !errors.Is(err, identity.ErrNotYetValid) {
		t.Errorf("of a signer that is 60 days ahead: %v", err)
	}
	if err := a.checkRenewed(sign(now), own); err != nil {
		t.Errorf("of a signer whose clock is right: %v", err)
	}
	if err := a.checkRenewed(a.Certificate().Certificate[0], own); err == nil {
		t.Error("the old one itself was taken")
	}
}

func TestACertificateIsDueNearItsEndAndBeforeItBegins(t *testing.T) {
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	s := identity.Subject{NotBefore: begin, NotAfter: begin.Add(300 * time.Hour)}
	for after, want := range map[time.Duration]bool{-time.Hour: true, 0: false, 199 * time.Hour: false, 200 * time.Hour: true, 400 * time.Hour: true} {
		if got := due(s, begin.Add(after)); got != want {
			t.Errorf("%v after its beginning: %v, want %v", after, got, want)
		}
	}
}

func TestACertificateThatLastsUntilTheAccessEndsIsRenewedOnlyWhenThatIsLater(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	a, ca := newTestAuthority(t, "guest", now.Add(-2*time.Hour))
	end := now.Add(time.Hour)
	a.Ends = func(string) time.Time { return end }
	own := a.Own()
	der, err := ca.LimitMember(own.Key, own.User, own.Admitted, now.Add(-9*time.Hour), 10*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.setCertificate(der); err != nil {
		t.Fatal(err)
	}
	wants := func(when string, want bool) {
		t.Helper()
		a.PolicyApplied()
		select {
		case <-a.extended:
			if !want {
				t.Errorf("%s: it is asked for", when)
			}
		default:
			if want {
				t.Errorf("%s: it is not asked for", when)
			}
		}
		if until := a.RenewBy(); until.IsZero() == want {
			t.Errorf("%s: it is to be renewed until %v", when, until)
		}
	}
	wants("the access ends with it", false)
	if got := a.renewIfDue(); got != renewEvery { // there is nobody to ask here
		t.Errorf("it is looked at again in %v", got)
	}
	end = now.Add(24 * time.Hour)
	wants("the access ends later", true)
	end = time.Time{}
	wants("the access ends no more", true)
	end = now.Add(time.Minute)
	wants("the access ends before it", false)
}

func TestAPeerGetsFewCertificates(t *testing.T) {
	a, _ := newTestAuthority(t, RootUser, time.Now())
	now := time.Now()
	peer := identity.Subject{Role: identity.RoleMember, User: "bob", ID: a.Self, Key: a.Own().Key, Admitted: now} // of another CA: due at any time
	var last int
	for range limits.RenewalBurst + 1 {
		w := httptest.NewRecorder()
		a.ServeRenew(w, peer)
		if last = w.Code; last != http.StatusOK {
			break
		}
	}
	if last != http.StatusTooManyRequests {
		t.Errorf("after %d certificates the answer is %d", limits.RenewalBurst, last)
	}
}

// ends are those of users in tests.
var ends = map[string]time.Time{"ended": time.Now().Add(-time.Second), "guest": time.Now().Add(time.Hour).Truncate(time.Second)}

func TestWhoseAccessHasEndedGetsNoNewCertificateAndWhoseEndsNoneThatLastsLonger(t *testing.T) {
	a, _ := newTestAuthority(t, RootUser, time.Now())
	for user, want := range map[string]int{"bob": http.StatusOK, "guest": http.StatusOK, "ended": http.StatusForbidden} {
		w := httptest.NewRecorder()
		a.ServeRenew(w, identity.Subject{Role: identity.RoleMember, User: user, ID: a.Self, Key: a.Own().Key, Admitted: time.Now()})
		if w.Code != want {
			t.Errorf("%s is answered with %d, want %d", user, w.Code, want)
		}
		if end := ends[user]; w.Code == http.StatusOK && !end.IsZero() {
			if c, err := x509.ParseCertificate(w.Body.Bytes()); err != nil || !c.NotAfter.Equal(end) {
				t.Errorf("the certificate of %s: %v, lasts until %v, want %v", user, err, c.NotAfter, end)
			}
		}
	}
}
