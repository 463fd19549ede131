// Package identitytest makes the meshes of tests: a CA, the trust list that begins with it, and
// devices with keys and certificates.
package identitytest

import (
	"crypto/ed25519"
	"crypto/tls"
	"testing"
	"time"

	"ztm/tunnel/identity"
)

// Mesh is a mesh whose CA the test holds.
type Mesh struct {
	CA    *identity.CA
	Trust *identity.Trust // its first: nobody is evicted
	Made  time.Time       // when the mesh was made, and all its devices were admitted

	t testing.TB
}

// New makes a mesh at a time. The test fails here, and in the methods, if that does not work.
func New(t testing.TB, made time.Time) *Mesh {
	t.Helper()
	ca, err := identity.NewCA(made)
	if err != nil {
		t.Fatal(err)
	}
	trust, err := identity.NewTrust(ca.CertificatePEM())
	if err != nil {
		t.Fatal(err)
	}
	return &Mesh{ca, trust, made, t}
}

// Verifier returns a verifier that has the first trust list, and a clock of its own.
func (m *Mesh) Verifier() *identity.Verifier {
	return identity.NewVerifier(m.Trust, identity.NewClock())
}

// Device is an endpoint or a hub.
type Device struct {
	ID     identity.ID
	Key    ed25519.PrivateKey
	Public ed25519.PublicKey
	DER    []byte          // its certificate
	Cert   tls.Certificate // the same with the key, as TLS takes it
}

// Member makes an endpoint of a user.
func (m *Mesh) Member(user string) Device {
	m.t.Helper()
	return m.device(func(key ed25519.PublicKey) ([]byte, error) { return m.CA.SignMember(key, user, m.Made, m.Made) })
}

// Hub makes a hub.
func (m *Mesh) Hub() Device {
	m.t.Helper()
	return m.device(func(key ed25519.PublicKey) ([]byte, error) { return m.CA.SignHub(key, m.Made) })
}

func (m *Mesh) device(sign func(ed25519.PublicKey) ([]byte, error)) Device {
	m.t.Helper()
	key, err := identity.NewKey()
	if err != nil {
		m.t.Fatal(err)
	}
	public := key.Public().(ed25519.PublicKey)
	der, err := sign(public)
	if err != nil {
		m.t.Fatal(err)
	}
	return Device{identity.IDOf(public), key, public, der, identity.TLSCertificate(der, key)}
}
