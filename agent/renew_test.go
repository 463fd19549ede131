package agent

import (
	"crypto/ed25519"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ztm/agent/authority"
	"ztm/agent/state"
	"ztm/tunnel"
	"ztm/tunnel/answer"
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
	return admittedRecord(t, ca, user, time.Now())
}

// admittedRecord is memberRecord with the time of admission in its certificate.
func admittedRecord(t *testing.T, ca *identity.CA, user string, admitted time.Time) []byte {
	t.Helper()
	key, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	public := key.Public().(ed25519.PublicKey)
	der, err := ca.SignMember(public, user, admitted, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	doc, err := identity.SignRecord(identity.Record{ID: identity.IDOf(public), Name: "ep-" + user, Certificate: der}, key)
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

func TestACertificateIsRenewedByWhicheverHubKeepsTheCA(t *testing.T) {
	m, ca := newTestMesh(t, "bob", time.Now().Add(-identity.MemberLifetime*3/4))
	var hubs []*fakeHub
	for i := range 3 {
		h := newFakeHub(t, ca)
		hubs = append(hubs, h)
		h.on("POST "+tunnel.PathRenew, func(w http.ResponseWriter, _ *http.Request) {
			if i < 2 {
				answer.Fail(w, m.log, answer.Errorf(answer.Denied, "this hub does not hold the CA key"))
				return
			}
			own := m.authority.Own()
			der, err := ca.SignMember(own.Key, own.User, own.Admitted, time.Now())
			if err != nil {
				t.Error(err)
			}
			answer.JSON(w, tunnel.SignAnswer{Certificate: der})
		})
	}
	runMesh(t, m, hubs...)
	until(t, "the certificate is renewed", func() bool { return time.Until(m.authority.Own().NotAfter) > identity.MemberLifetime/2 })
}

func TestARestoreKeepsTheNewerKeyOfTheMesh(t *testing.T) {
	now := time.Now()
	restored, old := newTestAgent(t), newTestAgent(t)
	row, ca := testRow(t, restored, rootUser, now)
	before, err := identity.NewTrust(ca.CertificatePEM())
	if err != nil {
		t.Fatal(err)
	}
	next, err := ca.Successor(now)
	if err != nil {
		t.Fatal(err)
	}
	rotated, err := before.Rotate(ca, next, now, now)
	if err != nil {
		t.Fatal(err)
	}
	cert, key := string(next.CertificatePEM()), string(next.KeyPEM())
	made := &authority.NextCA{CA: cert, Key: key}
	for name, test := range map[string]struct {
		change func(backup, old *authority.Row)
		want   authority.Row // of which the CA, its key and the next one count
	}{
		"after a rotation": {func(_, old *authority.Row) { old.CA, old.CAKey, old.Trust = cert, key, rotated.Document() }, authority.Row{CA: cert, CAKey: key}},
		"in a rotation that the mesh has and the device did not finish": {
			func(_, old *authority.Row) { old.Next, old.Trust = made, rotated.Document() }, authority.Row{CA: cert, CAKey: key}},
		"before a rotation that was begun": {func(_, old *authority.Row) { old.Next = made }, authority.Row{CA: row.CA, CAKey: row.CAKey, Next: made}},
		"of a device without the key": {
			func(backup, old *authority.Row) {
				backup.CAKey, old.CA, old.CAKey, old.Trust = "", cert, key, rotated.Document()
			}, authority.Row{CA: row.CA}},
	} {
		backup, last := row, row
		test.change(&backup, &last)
		for a, r := range map[*Agent]authority.Row{restored: backup, old: last} {
			if err := state.SaveMesh(a.db, "demo", r); err != nil {
				t.Fatal(err)
			}
		}
		if err := state.Backup().Merge(restored.db, old.db, now); err != nil {
			t.Fatal(err)
		}
		rows, err := state.Meshes(restored.db)
		if err != nil {
			t.Fatal(err)
		}
		got := rows["demo"]
		got = authority.Row{CA: got.CA, CAKey: got.CAKey, Next: got.Next}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
