package identity

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ztm/tunnel/identity/document"
	"ztm/tunnel/unixtime"
)

func TestTrustBeginsWithOneCAAndNobodyEvicted(t *testing.T) {
	m := newMesh(t)
	for name, trust := range map[string]*Trust{
		"new":    m.trust,
		"parsed": must(ParseTrust(m.ca.CertificatePEM(), nil))(t),
	} {
		if trust.Mesh() != m.ca.Mesh() || trust.Version() != 0 || trust.Document() != nil || !trust.Issued().IsZero() {
			t.Errorf("%s: mesh %s, version %d, document %q, issued %v", name,
				trust.Mesh(), trust.Version(), trust.Document(), trust.Issued())
		}
		if len(trust.Evictions()) != 0 || len(trust.CAs()) != 1 || !trust.CAs()[0].Equal(m.ca.Certificate()) {
			t.Errorf("%s: evictions %v, CAs %v", name, trust.Evictions(), trust.CAs())
		}
	}
}

func TestEvictionVoidsAllCertificatesOfTheUserAdmittedUntilThen(t *testing.T) {
	m := newMesh(t)
	early, late := m.member(t, "bob", start.Add(-time.Hour)), m.member(t, "bob", start)
	renewed := newDevice(t)
	renewed.der = must(m.ca.SignMember(renewed.public(), "bob", start.Add(-time.Hour), start.Add(time.Minute)))(t)
	alice, hub := m.member(t, "alice", start), m.hub(t, start)
	m.evict(t, "bob", start)

	for name, d := range map[string]device{"early": early, "late": late, "renewed since": renewed} {
		t.Run(name, func(t *testing.T) {
			_, err := m.trust.Verify(d.cert(t), RoleMember, start)
			wantError(t, err, ErrEvicted, "user bob was evicted")
		})
	}
	if _, err := m.trust.Verify(alice.cert(t), RoleMember, start); err != nil {
		t.Errorf("alice: %v", err)
	}
	if _, err := m.trust.Verify(hub.cert(t), RoleHub, start); err != nil {
		t.Errorf("hub: %v", err)
	}
	want := []Eviction{{User: "bob", Admitted: start}}
	if diff := cmp.Diff(want, m.trust.Evictions()); diff != "" {
		t.Errorf("evictions (-want +got):\n%s", diff)
	}
}

func TestUserWhoWasEvictedCanBeInvitedAgain(t *testing.T) {
	m := newMesh(t)
	m.evict(t, "bob", start)
	for name, now := range map[string]time.Time{
		"later":            start.Add(time.Hour),
		"at once":          start,
		"by a slow clock":  start.Add(-20 * time.Hour),
		"by no clock even": {},
	} {
		t.Run(name, func(t *testing.T) {
			admitted := m.trust.Admission("bob", now)
			bob := newDevice(t)
			bob.der = must(m.ca.SignMember(bob.public(), "bob", admitted, start))(t)
			if _, err := m.trust.Verify(bob.cert(t), RoleMember, start); err != nil {
				t.Error(err)
			}
		})
	}
	if got := m.trust.Admission("alice", start); !got.Equal(start) {
		t.Errorf("alice is admitted %v, want %v", got, start)
	}
}

func TestUserWhoWasInvitedAgainCanBeEvictedAgain(t *testing.T) {
	m := newMesh(t)
	m.evict(t, "bob", start)
	slow := start.Add(-20 * time.Hour)
	bob := newDevice(t)
	bob.der = must(m.ca.SignMember(bob.public(), "bob", m.trust.Admission("bob", slow), start))(t)
	m.evict(t, "bob", slow)
	_, err := m.trust.Verify(bob.cert(t), RoleMember, start)
	wantError(t, err, ErrEvicted, "bob")
}

func TestEvictionCoversAdmissionsAheadOfTheClock(t *testing.T) {
	m := newMesh(t)
	bob := newDevice(t)
	ahead := start.Add(time.Hour)
	bob.der = must(m.ca.SignMember(bob.public(), "bob", ahead, start))(t)
	trust := must(m.trust.Evict(m.ca, "bob", start, start.Add(time.Minute), ahead))(t)
	_, err := trust.Verify(bob.cert(t), RoleMember, start)
	wantError(t, err, ErrEvicted, "bob")
	if !trust.Issued().Equal(start) {
		t.Errorf("list was issued %v, want %v", trust.Issued(), start)
	}
}

func TestTokenOfAnEvictedUserGivesAVoidCertificate(t *testing.T) {
	m := newMesh(t)
	root, bob := m.member(t, "root", start), newDevice(t)
	token := must(m.ca.NewToken("bob", root.id, m.trust.Admission("bob", start), start.Add(day)))(t)
	m.evict(t, "bob", start.Add(time.Minute))
	proof := must(token.Prove(bob.public(), "laptop"))(t)
	later := start.Add(time.Hour)
	invitation := must(m.ca.CheckProof(proof, bob.public(), "laptop", root.id, later))(t)
	bob.der = must(m.ca.SignMember(bob.public(), invitation.User, invitation.Admitted, later))(t)
	_, err := m.trust.Verify(bob.cert(t), RoleMember, later)
	wantError(t, err, ErrEvicted, "bob")
}

func TestListsFollowEachOther(t *testing.T) {
	m := newMesh(t)
	first := m.trust
	m.evict(t, "carol", start)
	m.evict(t, "bob", start.Add(time.Hour))
	m.evict(t, "dave", start.Add(-time.Hour)) // a slow clock does not take the time of issue back
	last := m.trust
	if last.Version() != 3 || !last.Issued().Equal(start.Add(time.Hour)) {
		t.Errorf("version %d, issued %v", last.Version(), last.Issued())
	}
	var users []string
	for _, e := range last.Evictions() {
		users = append(users, e.User)
	}
	if diff := cmp.Diff([]string{"bob", "carol", "dave"}, users); diff != "" {
		t.Errorf("evicted (-want +got):\n%s", diff)
	}
	for name, got := range map[string]*Trust{
		"update": must(first.Update(last.Document()))(t),
		"parse":  must(ParseTrust(m.ca.CertificatePEM(), last.Document()))(t),
	} {
		if got.Version() != 3 || !bytes.Equal(got.Document(), last.Document()) || !cmp.Equal(got.Evictions(), last.Evictions()) {
			t.Errorf("%s: version %d, %v", name, got.Version(), got.Evictions())
		}
	}
	if len(first.Evictions()) != 0 {
		t.Error("the first list has changed")
	}
}

func TestUpdateWithNothingNewChangesNothing(t *testing.T) {
	m := newMesh(t)
	if got := must(m.trust.Update(nil))(t); got != m.trust {
		t.Error("at version 0 it is another trust")
	}
	m.evict(t, "bob", start)
	if got := must(m.trust.Update(bytes.Clone(m.trust.Document())))(t); got != m.trust {
		t.Error("at version 1 it is another trust")
	}
}

func TestRollBackIsRefused(t *testing.T) {
	m := newMesh(t)
	one := must(m.trust.Evict(m.ca, "bob", start))(t)
	two := must(one.Evict(m.ca, "carol", start))(t)
	fork := must(one.Evict(m.ca, "dave", start))(t)
	_, err := two.Update(one.Document())
	wantError(t, err, ErrRollback, "roll-back refused: trust list version 2 is in force, got another of version 1")
	_, err = two.Update(fork.Document())
	wantError(t, err, ErrFork, "version 2")
	_, err = two.Update(nil)
	wantError(t, err, ErrRollback, "got none")

	// Of two evictions at a time both hold in the end.
	again := must(two.Unite(m.ca, start, fork.Document()))(t)
	for name, old := range map[string]*Trust{"winner": two, "loser": fork} {
		if _, err := old.Update(again.Document()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTamperedListIsRefused(t *testing.T) {
	m := newMesh(t)
	m.evict(t, "bob", start)
	next := must(m.ca.Successor(start))(t)
	doc := must(m.trust.Rotate(m.ca, next, start.Add(year), start))(t).Document()
	base := must(NewTrust(m.ca.CertificatePEM()))(t)
	if _, err := base.Update(doc); err != nil {
		t.Fatalf("untouched: %v", err)
	}
	for i := range doc {
		if _, err := base.Update(flip(doc, i)); err == nil {
			t.Fatalf("byte %d changed from %q: the list was accepted", i, doc[i])
		}
	}
	for i := 1; i < len(doc); i += 7 {
		_, err := base.Update(doc[:i])
		wantError(t, err, ErrTrust, "trust list")
	}
	for _, more := range []string{" ", "\n", "{}", "\x00"} {
		_, err := base.Update(append(bytes.Clone(doc), more...))
		wantError(t, err, ErrTrust, "trust list")
	}
}

func TestListOfAnotherMeshIsRefused(t *testing.T) {
	m, other := newMesh(t), newMesh(t)
	other.evict(t, "bob", start)
	_, err := m.trust.Update(other.trust.Document())
	wantError(t, err, ErrWrongMesh, "trust list of another mesh")
	_, err = m.trust.Evict(other.ca, "bob", start)
	wantError(t, err, ErrNoCA, "not that of the mesh's newest CA")
	_, err = m.trust.Rotate(m.ca, other.ca, start, start)
	wantError(t, err, ErrWrongMesh, "next CA is of another mesh")
	_, err = m.trust.Evict(m.ca, "no/name", start)
	wantError(t, err, ErrName, "user")
}

// signList makes a document of a list without any of the care that issue takes.
func signList(t *testing.T, l list, ca *CA) []byte {
	t.Helper()
	return must(document.Sign(listContext, l, ca.private()))(t)
}

func TestListOfAnotherFormIsRefused(t *testing.T) {
	m, other := newMesh(t), newMesh(t)
	good := func() list {
		return list{Mesh: m.ca.mesh, Version: 1, Issued: unixtime.Of(start), CAs: []listCA{{Certificate: m.ca.cert.Raw}},
			Evictions: []eviction{{User: "bob", Admitted: 1}, {User: "carol", Admitted: 1}}}
	}
	if _, err := m.trust.Update(signList(t, good(), m.ca)); err != nil {
		t.Fatalf("the list is not good: %v", err)
	}
	member := m.member(t, "bob", start)
	tests := []struct {
		name  string
		alter func(l *list)
		kind  error
		text  string
	}{
		{"version 0", func(l *list) { l.Version = 0 }, ErrTrust, "version 0"},
		{"version that JavaScript cannot count", func(l *list) { l.Version = 1 << 53 }, ErrTrust, "out of range"},
		{"no CA", func(l *list) { l.CAs = nil }, ErrTrust, "0 CAs"},
		{"too many CAs", func(l *list) { l.CAs = slices.Repeat(l.CAs, maxCAs+1) }, ErrTrust, "65 CAs"},
		{"too many evictions", func(l *list) { l.Evictions = slices.Repeat(l.Evictions, maxEvictions/2+1) }, ErrTrust, "45002 evictions"},
		{"evictions out of order", func(l *list) { slices.Reverse(l.Evictions) }, ErrTrust, "eviction 1"},
		{"an eviction twice", func(l *list) { l.Evictions[1] = l.Evictions[0] }, ErrTrust, "eviction 1"},
		{"an eviction of nobody", func(l *list) { l.Evictions[0].User = "" }, ErrTrust, "eviction 0"},
		{"an eviction of a user and an endpoint", func(l *list) { l.Evictions[0].ID = member.id }, ErrTrust, "eviction 0"},
		{"an eviction of no ID", func(l *list) { l.Evictions[1] = eviction{ID: "x", Admitted: 1} }, ErrTrust, "eviction 1"},
		{"endpoints before users", func(l *list) { l.Evictions[0] = eviction{ID: member.id, Admitted: 1} }, ErrTrust, "eviction 1"},
		{"a reason that moves the cursor", func(l *list) { l.Evictions[0].Reason = "\x1b[2J" }, ErrTrust, "eviction 0"},
		{"a reason too long", func(l *list) { l.Evictions[0].Reason = strings.Repeat("x", MaxReason+1) }, ErrTrust, "eviction 0"},
		{"an eviction by nobody", func(l *list) { l.Evictions[0].By = "x" }, ErrTrust, "eviction 0"},
		{"an eviction before time", func(l *list) { l.Evictions[0].Admitted = 0 }, ErrTrust, "eviction 0"},
		{"a CA that is none", func(l *list) { l.CAs[0].Certificate = member.der }, ErrTrust, "CA certificate"},
		{"a CA of another mesh", func(l *list) { l.CAs[0].Certificate = other.ca.cert.Raw }, ErrTrust, "CA 0"},
		{"the newest CA retires", func(l *list) { l.CAs[0].Retire = 1 }, ErrTrust, "CA 0"},
		{"the oldest CA is endorsed", func(l *list) { l.CAs[0].Endorsement = []byte("x") }, ErrTrust, "CA 0"},
		{"a CA twice", func(l *list) {
			l.CAs = append(l.CAs, listCA{Certificate: m.ca.cert.Raw, Retire: 1})
			l.CAs[0].Endorsement = []byte("x")
		}, ErrTrust, "CA 1 is there twice"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := good()
			tt.alter(&l)
			_, err := m.trust.Update(signList(t, l, m.ca))
			wantError(t, err, tt.kind, tt.text)
		})
	}
}

func TestListTooLargeIsRefusedUnread(t *testing.T) {
	_, err := newMesh(t).trust.Update(make([]byte, MaxTrust+1))
	wantError(t, err, ErrTrust, "larger than")
}

func TestTheLargestListFitsIntoADocumentAndAPermit(t *testing.T) {
	m := newMesh(t)
	l := list{Mesh: m.ca.mesh, Version: maxVersion, Issued: unixtime.Of(start), CAs: []listCA{{Certificate: m.ca.cert.Raw}}}
	for i := range maxEvictions - 1 {
		l.Evictions = append(l.Evictions, eviction{User: fmt.Sprintf("user-%025d@example.com", i), Admitted: unixtime.Of(start)})
	}
	doc := signList(t, l, m.ca)
	if _, err := m.trust.Update(doc); err != nil {
		t.Fatal(err)
	}
	p := Permit{Mesh: m.ca.mesh, CA: string(m.ca.CertificatePEM()), Bootstraps: []string{"hub:1"}, Trust: doc, CAKey: string(m.ca.KeyPEM())}
	if _, err := ParsePermit(must(p.Marshal())(t)); err != nil {
		t.Fatal(err)
	}
}

func TestOneFormOfAListOnlyIsAccepted(t *testing.T) {
	m := newMesh(t)
	m.evict(t, "bob", start)
	doc := m.trust.Document()
	base := must(NewTrust(m.ca.CertificatePEM()))(t)
	for name, other := range map[string][]byte{
		"indented":          must(indent(doc))(t),
		"another case":      bytes.Replace(doc, []byte(`"signature"`), []byte(`"Signature"`), 1),
		"an unknown field":  bytes.Replace(doc, []byte(`"signature"`), []byte(`"x":1,"signature"`), 1),
		"a field twice":     bytes.Replace(doc, []byte(`"signature"`), []byte(`"signature":"","signature"`), 1),
		"white space":       bytes.Replace(doc, []byte(`"signature"`), []byte(` "signature"`), 1),
		"an escape":         resign(t, bytes.Replace(doc, []byte(`"bob"`), []byte(`"b\u006fb"`), 1), m.ca),
		"a line end base64": bytes.Replace(doc, []byte(`"signature":"`), []byte(`"signature":"\n`), 1),
	} {
		if bytes.Equal(doc, other) {
			t.Errorf("%s: the document is the same", name)
		}
		if _, err := base.Update(other); !errors.Is(err, ErrTrust) && !errors.Is(err, ErrUntrusted) {
			t.Errorf("%s: the error is %v", name, err)
		}
	}
}

// resign signs the payload of a document anew, as it stands.
func resign(t *testing.T, doc []byte, ca *CA) []byte {
	t.Helper()
	old, err := document.Split(doc)
	if err != nil {
		t.Fatal(err)
	}
	text := base64.StdEncoding.EncodeToString
	return bytes.Replace(doc, []byte(text(old.Signature)), []byte(text(ed25519.Sign(ca.private(), document.Message(listContext, old.Payload)))), 1)
}

func TestTheSignatureOfAListIsVerifiedBeforeItsEvictionsAreRead(t *testing.T) {
	m := newMesh(t)
	m.evict(t, "bob", start)
	doc := bytes.Replace(m.trust.Document(), []byte(`"evictions":[`), []byte(`"evictions":[!`), 1)
	base := must(NewTrust(m.ca.CertificatePEM()))(t)
	_, err := base.Update(doc)
	wantError(t, err, ErrUntrusted, "no valid signature")
	_, err = base.Update(resign(t, doc, m.ca))
	wantError(t, err, ErrTrust, "invalid character")
}

func indent(doc []byte) ([]byte, error) {
	var b bytes.Buffer
	err := json.Indent(&b, doc, "", " ")
	return b.Bytes(), err
}

func TestSignaturesOfOtherKindsOfDocumentsDoNotCount(t *testing.T) {
	m := newMesh(t)
	l := list{Mesh: m.ca.mesh, Version: 1, CAs: []listCA{{Certificate: m.ca.cert.Raw}}}
	_, err := m.trust.Update(must(document.Sign(recordContext, l, m.ca.private()))(t))
	wantError(t, err, ErrUntrusted, "no valid signature")
}
