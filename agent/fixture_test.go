package agent

import (
	"crypto/ed25519"
	"encoding/json"
	"net/http/httptest"
	"testing"
	"time"

	"ztm/agent/authority"
	"ztm/agent/state"
	"ztm/apps"
	"ztm/tunnel"
	"ztm/tunnel/identity"
	"ztm/tunnel/identity/identitytest"
)

// newTestAgent is an agent without apps that does not run.
func newTestAgent(t *testing.T) *Agent {
	t.Helper()
	a, err := New(Config{Data: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	return a
}

// newTestMesh is a membership of a user in a mesh whose CA the test holds. Its hub is not there.
// The certificate is made at a time.
func newTestMesh(t *testing.T, user string, made time.Time) (*mesh, *identity.CA) {
	t.Helper()
	a := newTestAgent(t)
	row, ca := testRow(t, a, user, made)
	m, err := newMesh(a, "demo", row)
	if err != nil {
		t.Fatal(err)
	}
	a.meshes["demo"] = m // which Close discards
	if err := state.SaveMesh(a.db, "demo", row); err != nil {
		t.Fatal(err)
	}
	return m, ca
}

// meshOf is a membership of another device, of a user, in a mesh whose CA the test holds.
func meshOf(t *testing.T, ca *identity.CA, user string) *mesh {
	t.Helper()
	a := newTestAgent(t)
	m, err := newMesh(a, "demo", rowOf(t, a, ca, user, time.Now()))
	if err != nil {
		t.Fatal(err)
	}
	a.meshes["demo"] = m // which Close discards
	return m
}

// testRow is the membership of an agent's user in a new mesh.
func testRow(t *testing.T, a *Agent, user string, made time.Time) (authority.Row, *identity.CA) {
	t.Helper()
	ca := identitytest.New(t, made).CA
	return rowOf(t, a, ca, user, made), ca
}

// rowOf is the membership of an agent's user in a mesh.
func rowOf(t *testing.T, a *Agent, ca *identity.CA, user string, made time.Time) authority.Row {
	t.Helper()
	der, err := ca.SignMember(a.key.Public().(ed25519.PublicKey), user, made, made)
	if err != nil {
		t.Fatal(err)
	}
	row := authority.Row{CA: string(ca.CertificatePEM()), Certificate: der, Name: "ep-" + user, Hubs: []string{"127.0.0.1:1"}}
	if user == rootUser {
		row.CAKey = string(ca.KeyPEM())
	}
	return row
}

// decode reads an answer of the local API.
func decode[T any](t *testing.T, w *httptest.ResponseRecorder) (v T) {
	t.Helper()
	if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil {
		t.Fatalf("status %d, %s: %v", w.Code, w.Body, err)
	}
	return v
}

// subjectOf is who an endpoint is by its certificate, of which nothing but that matters.
func subjectOf(e apps.Endpoint) identity.Subject {
	return identity.Subject{Role: identity.RoleMember, ID: e.ID, User: e.User}
}

// hubSession returns the session of a mesh with its hub, nil if there is none.
func hubSession(m *mesh) *tunnel.Session {
	s, _ := m.control.Now()
	return s
}
