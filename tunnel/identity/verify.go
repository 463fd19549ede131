package identity

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"slices"
	"time"

	"ztm/tunnel/unixtime"
)

// RootUser is the user whose endpoints may hold the CA key. Only the CA makes certificates of that
// user.
const RootUser = "root"

// Role says what a certificate is for.
type Role string

// The roles.
const (
	RoleHub    Role = "hub"
	RoleMember Role = "member"
)

// Subject is who a verified certificate speaks of. Only [Trust.Verify] and what builds on it make
// one of a peer.
type Subject struct {
	Mesh     ID
	Role     Role
	User     string // of a member; "" for a hub
	ID       ID
	Key      ed25519.PublicKey
	Admitted time.Time // when the user was invited, to the second; for a hub, when its certificate was signed
	Issuer   ID        // of the key of the CA that signed, see [CA.ID]

	NotBefore, NotAfter time.Time
	Limited             bool // of a member: it was signed for less than MemberLifetime, and does not just end with its CA
}

// Verify is the one place where a peer is verified. It returns whose certificate it is, if and only
// if the certificate has our form, is signed by a CA of the mesh that is not retired, for the
// wanted role, for the key it holds, valid now, and neither it nor its user was evicted since. Errors
// match [ErrUntrusted], [ErrWrongMesh], [ErrWrongRole], [ErrExpired], [ErrNotYetValid] or
// [ErrEvicted].
//
// Verify does not know who presents the certificate: the caller makes sure that the peer holds its
// key, by a TLS handshake or a signature.
func (t *Trust) Verify(cert *x509.Certificate, role Role, now time.Time) (Subject, error) {
	s, err := t.inspect(cert, role)
	if err != nil {
		return Subject{}, err
	}
	if err := t.Reverify(s, now); err != nil {
		return Subject{}, err
	}
	return s, nil
}

// Reverify verifies again what [Trust.Verify] has accepted, by this trust or an older one: time
// goes on, and users and devices are evicted while sessions last. Errors match [ErrUntrusted], [ErrExpired],
// [ErrNotYetValid] or [ErrEvicted].
func (t *Trust) Reverify(s Subject, now time.Time) error {
	if err := checkDates(s.NotBefore, s.NotAfter, now); err != nil {
		return err
	}
	if err := t.checkCA(s.Issuer, now); err != nil {
		return err
	}
	switch {
	case s.Role == RoleMember && t.Voids(s.User, s.Admitted):
		return failf(ErrEvicted, "user %s was evicted", s.User)
	case t.Evicted(s):
		return failf(ErrEvicted, "%s %s was evicted", called[s.Role], s.ID)
	}
	return nil
}

// inspect does what Verify does and time does not change: form, signature, role and identity.
func (t *Trust) inspect(cert *x509.Certificate, role Role) (s Subject, err error) {
	if cert == nil {
		return Subject{}, failf(ErrUntrusted, "no certificate")
	}
	uri, _ := soleURI(cert)
	s, named := parseSubjectURI(uri)
	ca := slices.IndexFunc(t.cas, func(c *x509.Certificate) bool {
		return bytes.Equal(c.SubjectKeyId, cert.AuthorityKeyId)
	})
	switch {
	case named && s.Mesh != t.list.Mesh:
		return Subject{}, failf(ErrWrongMesh, "certificate of another mesh: %s, not %s", s.Mesh, t.list.Mesh)
	case ca < 0 || cert.CheckSignatureFrom(t.cas[ca]) != nil:
		return Subject{}, failf(ErrUntrusted, "certificate is not signed by the CA of mesh %s", t.list.Mesh)
	}
	var ok bool
	s.Key, _ = cert.PublicKey.(ed25519.PublicKey)
	s.Admitted, ok = admittedOf(cert.SerialNumber)
	s.Issuer, s.NotBefore, s.NotAfter = t.ids[ca], cert.NotBefore, cert.NotAfter
	s.Limited = s.NotAfter.Sub(s.NotBefore) < setBack+MemberLifetime && !s.NotAfter.Equal(t.cas[ca].NotAfter)
	if !named || !ok || !plain(cert) || cert.IsCA || cert.KeyUsage != x509.KeyUsageDigitalSignature {
		return Subject{}, failf(ErrUntrusted, "certificate is not one of a ztm hub or member")
	}
	// The URI and the extended key usage both state the role: a certificate that contradicts itself
	// has none.
	if use := usage[s.Role]; !slices.Equal(cert.ExtKeyUsage, []x509.ExtKeyUsage{use}) {
		return Subject{}, failf(ErrWrongRole, "certificate says it is a %s's but may not be used as one", s.Role)
	}
	if IDOf(s.Key) != s.ID {
		return Subject{}, failf(ErrUntrusted, "certificate is for ID %s but its key is not", s.ID)
	}
	if s.Role != role {
		return Subject{}, failf(ErrWrongRole, "this is a %s's certificate, not a %s's", s.Role, role)
	}
	return s, nil
}

// usage is the extended key usage of a role. A member's is clientAuth also where it is the TLS
// server, at the exit of a sealed session: what it must never be is a hub.
var usage = map[Role]x509.ExtKeyUsage{
	RoleHub:    x509.ExtKeyUsageServerAuth,
	RoleMember: x509.ExtKeyUsageClientAuth,
}

// called is the word for the device of a role.
var called = map[Role]string{RoleHub: "hub", RoleMember: "endpoint"}

// plain reports whether a certificate is of the kind we make: version 3, Ed25519 in both places,
// nothing critical that nobody looked at.
func plain(cert *x509.Certificate) bool {
	return cert.Version == 3 && cert.PublicKeyAlgorithm == x509.Ed25519 && cert.SignatureAlgorithm == x509.PureEd25519 &&
		len(cert.UnhandledCriticalExtensions) == 0 && len(cert.UnknownExtKeyUsage) == 0
}

// checkDates checks that a certificate is valid now.
func checkDates(notBefore, notAfter, now time.Time) error {
	if now.Before(notBefore) {
		return failf(ErrNotYetValid, "certificate is not valid before %s (this device's clock says %s: is it right?)", unixtime.Text(notBefore), unixtime.Text(now))
	}
	if now.After(notAfter) {
		return failf(ErrExpired, "certificate expired on %s (this device's clock says %s: is it right?)", unixtime.Text(notAfter), unixtime.Text(now))
	}
	return nil
}
