package agent

import (
	"crypto/ed25519"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"ztm/agent/limits"
	"ztm/tunnel/identity"
)

func TestARenewedCertificateMustBeGoodNow(t *testing.T) {
	const day = 24 * time.Hour
	now := time.Now()
	m, ca := newTestMesh(t, "bob", now.Add(-300*day))
	own := m.own()
	sign := func(at time.Time) []byte {
		der, err := ca.SignMember(own.Key, own.User, own.Admitted, at)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	if err := m.checkRenewed(sign(now.Add(60*day)), own); !errors.Is(err, identity.ErrNotYetValid) {
		t.Errorf("of a signer that is 60 days ahead: %v", err)
	}
	if err := m.checkRenewed(sign(now), own); err != nil {
		t.Errorf("of a signer whose clock is right: %v", err)
	}
	if err := m.checkRenewed(m.certificate().Certificate[0], own); err == nil {
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

func TestAClockThatIsAheadIsNotKept(t *testing.T) {
	const day = 24 * time.Hour
	m, ca := newTestMesh(t, "bob", time.Now())
	m.agent.clock.Raise(time.Now().Add(200 * day)) // both certificates are good by it
	if floor := m.agent.floor(); !floor.IsZero() {
		t.Errorf("without a peer the floor is %v", floor)
	}
	witness(t, m, ca)
	if floor, limit := m.agent.floor(), time.Now().Add(8*day); floor.IsZero() || floor.After(limit) {
		t.Errorf("the floor is %v", floor)
	}
}

// witness lets a mesh see the good record of another member.
func witness(t *testing.T, m *mesh, ca *identity.CA) {
	t.Helper()
	if _, _, err := m.verifier.Record(memberRecord(t, ca, "alice")); err != nil {
		t.Fatal(err)
	}
}

// memberRecord is the record of a new endpoint of a user.
func memberRecord(t *testing.T, ca *identity.CA, user string) []byte {
	t.Helper()
	key, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	public := key.Public().(ed25519.PublicKey)
	der, err := ca.SignMember(public, user, time.Now(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	doc, err := identity.SignRecord(identity.Record{ID: identity.IDOf(public), Name: "ep-" + user, Certificate: der}, key)
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

func TestAPeerGetsFewCertificates(t *testing.T) {
	m, _ := newTestMesh(t, rootUser, time.Now())
	now := time.Now()
	peer := identity.Subject{Role: identity.RoleMember, User: "bob", ID: m.agent.self, Key: m.own().Key, Admitted: now} // of another CA: due at any time
	var last int
	for range limits.RenewalBurst + 1 {
		w := httptest.NewRecorder()
		m.serveRenew(w, peer)
		if last = w.Code; last != http.StatusOK {
			break
		}
	}
	if last != http.StatusTooManyRequests {
		t.Errorf("after %d certificates the answer is %d", limits.RenewalBurst, last)
	}
}
