package identity

import (
	"crypto/ed25519"
	"crypto/x509"
	"errors"
	"slices"
	"testing"
	"time"
)

func TestRotationBringsEverybodyToTheNewCA(t *testing.T) {
	m := newMesh(t)
	ca1 := m.ca
	bob := m.member(t, "bob", start)
	m.evict(t, "mallory", start)
	atOne := m.trust
	retire := start.Add(30 * day)
	ca2, ca3 := must(ca1.Successor(start))(t), must(ca1.Successor(start))(t)
	two := must(atOne.Rotate(ca1, ca2, retire, start))(t)
	three := must(two.Rotate(ca2, ca3, retire.Add(day), start))(t)

	if ca3.Mesh() != ca1.Mesh() || three.Mesh() != ca1.Mesh() {
		t.Errorf("meshes %s and %s, want %s", ca3.Mesh(), three.Mesh(), ca1.Mesh())
	}
	for name, base := range map[string]*Trust{
		"knows CA 1":       must(NewTrust(ca1.CertificatePEM()))(t),
		"was at version 1": atOne,
		"was at CA 2":      two,
		"permit of CA 2":   must(NewTrust(ca2.CertificatePEM()))(t),
		"permit of CA 3":   must(NewTrust(ca3.CertificatePEM()))(t),
	} {
		got := must(base.Update(three.Document()))(t)
		want := []*x509.Certificate{ca3.Certificate(), ca2.Certificate(), ca1.Certificate()}
		if !slices.EqualFunc(got.CAs(), want, (*x509.Certificate).Equal) || len(got.Evictions()) != 1 {
			t.Errorf("%s: CAs %v, evictions %v", name, got.CAs(), got.Evictions())
		}
	}

	fresh := newDevice(t)
	fresh.der = must(ca3.SignMember(fresh.public(), "alice", start, start))(t)
	if s, err := three.Verify(fresh.cert(t), RoleMember, start); err != nil || s.Mesh != ca1.Mesh() {
		t.Errorf("certificate of the new CA: %v, %v", s, err)
	}
	if _, err := three.Verify(bob.cert(t), RoleMember, retire.Add(-time.Second)); err != nil {
		t.Errorf("certificate of the old CA before it retires: %v", err)
	}
	_, err := three.Verify(bob.cert(t), RoleMember, retire)
	wantError(t, err, ErrExpired, "a CA that the mesh replaced; it was accepted until 2100-02-01T03:04:05Z")
	_, err = atOne.Verify(fresh.cert(t), RoleMember, start)
	wantError(t, err, ErrUntrusted, "")

	// The list lives on under the new CA alone.
	_, err = three.Evict(ca1, "bob", start)
	wantError(t, err, ErrNoCA, "newest CA")
	if _, err := must(NewTrust(ca1.CertificatePEM()))(t).Update(must(three.Evict(ca3, "bob", start))(t).Document()); err != nil {
		t.Error(err)
	}
}

func TestAPeerIsVerifiedAgainByTheTrustAndTheTimeOfNow(t *testing.T) {
	m := newMesh(t)
	bob := must(m.trust.Verify(m.member(t, "bob", start).cert(t), RoleMember, start))(t)
	ca2 := must(m.ca.Successor(start))(t)
	retire := start.Add(30 * day)
	rotated := must(m.trust.Rotate(m.ca, ca2, retire, start))(t)
	evicted := must(m.trust.Evict(m.ca, "bob", start))(t)
	for _, tt := range []struct {
		name  string
		trust *Trust
		now   time.Time
		kind  error
	}{
		{"nothing changed", m.trust, start, nil},
		{"it expired", m.trust, start.Add(2 * year), ErrExpired},
		{"the clock went back", m.trust, start.Add(-2 * day), ErrNotYetValid},
		{"its CA will retire", rotated, retire.Add(-time.Second), nil},
		{"its CA has retired", rotated, retire, ErrExpired},
		{"it was evicted", evicted, start, ErrEvicted},
		{"it is of another mesh", newMesh(t).trust, start, ErrUntrusted},
	} {
		if err := tt.trust.Reverify(bob, tt.now); !errors.Is(err, tt.kind) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.kind)
		}
	}
	if bob.Issuer != m.ca.ID() || m.trust.Newest() != m.ca.ID() || rotated.Newest() != ca2.ID() {
		t.Errorf("issuer %s, newest %s and %s", bob.Issuer, m.trust.Newest(), rotated.Newest())
	}
	if at := rotated.Retires(bob.Issuer); !at.Equal(retire) {
		t.Errorf("the old CA retires at %v, want %v", at, retire)
	}
	if at := rotated.Retires(ca2.ID()); !at.IsZero() {
		t.Errorf("the new CA retires at %v", at)
	}
}

func TestARotationWithALesserGraceCutsAllOldCAsShort(t *testing.T) {
	m := newMesh(t)
	ca2, ca3 := must(m.ca.Successor(start))(t), must(m.ca.Successor(start))(t)
	two := must(m.trust.Rotate(m.ca, ca2, start.Add(30*day), start))(t)
	if at := two.NextRetirement(start); !at.Equal(start.Add(30 * day)) {
		t.Errorf("the next retirement is at %v", at)
	}
	three := must(two.Rotate(ca2, ca3, start.Add(day), start))(t)
	for _, ca := range []*CA{m.ca, ca2} {
		if at := three.Retires(ca.ID()); !at.Equal(start.Add(day)) {
			t.Errorf("%v retires at %v", ca, at)
		}
	}
	longer := must(two.Rotate(ca2, ca3, start.Add(year), start))(t)
	if at := longer.NextRetirement(start); !at.Equal(start.Add(30 * day)) {
		t.Errorf("a longer grace prolongs that of the first CA to %v", at)
	}
	if at := longer.NextRetirement(start.Add(30 * day)); !at.Equal(start.Add(year)) {
		t.Errorf("then %v", at)
	}
	if at := longer.NextRetirement(start.Add(year)); !at.IsZero() {
		t.Errorf("and then %v", at)
	}
}

func TestRotationOnAnotherBranchIsRefused(t *testing.T) {
	m := newMesh(t)
	ca2, evil := must(m.ca.Successor(start))(t), must(m.ca.Successor(start))(t)
	rotated := must(m.trust.Rotate(m.ca, ca2, start.Add(year), start))(t)

	// Whoever stole the key of CA 1 makes a successor and as many versions as it takes.
	fork := must(m.trust.Rotate(m.ca, evil, start.Add(year), start))(t)
	for range 5 {
		fork = must(fork.Evict(evil, "root", start))(t)
	}
	_, err := rotated.Update(fork.Document())
	wantError(t, err, ErrUntrusted, "does not follow")

	// CA 1 again, as if it were the newest still.
	old := list{Mesh: m.ca.mesh, Version: 9, CAs: []listCA{{Certificate: m.ca.cert.Raw}}}
	_, err = rotated.Update(signList(t, old, m.ca))
	wantError(t, err, ErrUntrusted, "does not follow")

	// CA 2 in the line, but the next one is not endorsed by it.
	sign := func(by *CA, next *CA) []byte {
		return ed25519.Sign(by.private(), endorsement(m.ca.mesh, next.cert.Raw))
	}
	line := func(endorsed []byte) list {
		return list{Mesh: m.ca.mesh, Version: 9, CAs: []listCA{
			{Certificate: evil.cert.Raw, Endorsement: endorsed},
			{Certificate: ca2.cert.Raw, Endorsement: sign(m.ca, ca2), Retire: 1},
			{Certificate: m.ca.cert.Raw, Retire: 1}}}
	}
	_, err = rotated.Update(signList(t, line(sign(m.ca, evil)), evil))
	wantError(t, err, ErrUntrusted, "does not follow")
	_, err = rotated.Update(signList(t, line(sign(evil, evil)), evil))
	wantError(t, err, ErrUntrusted, "does not follow")
	if _, err = rotated.Update(signList(t, line(sign(ca2, evil)), evil)); err != nil {
		t.Errorf("endorsed by CA 2: %v", err)
	}

	// CA 2 is the newest in the list, but CA 1 has signed it.
	forged := rotated.list.clone()
	forged.Version++
	_, err = rotated.Update(signList(t, forged, m.ca))
	wantError(t, err, ErrUntrusted, "no valid signature")
}

func TestRotationTakesTheRightKeyAndClock(t *testing.T) {
	m := newMesh(t)
	ca2, ca3 := must(m.ca.Successor(start))(t), must(m.ca.Successor(start))(t)
	rotated := must(m.trust.Rotate(m.ca, ca2, start.Add(year), start))(t)
	_, err := rotated.Rotate(m.ca, ca3, start.Add(year), start)
	wantError(t, err, ErrNoCA, "newest CA")
	_, err = rotated.Rotate(ca2, m.ca, start.Add(year), start)
	wantError(t, err, ErrTrust, "twice")
	_, err = rotated.Rotate(ca2, ca3, start.Add(year), start.Add(-year))
	wantError(t, err, ErrNotYetValid, "the mesh's CA")
	_, err = rotated.Evict(ca2, "bob", start.Add(30*year))
	wantError(t, err, ErrExpired, "the mesh's CA")
}
