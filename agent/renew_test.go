package agent

import (
	"crypto/ed25519"
	"testing"
	"time"

	"ztm/tunnel/identity"
)

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
