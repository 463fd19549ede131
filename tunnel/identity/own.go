package identity

import "crypto/x509"

// Certificate reads a certificate of the mesh and verifies it as of now, as [Trust.Verify] does. It
// is for a certificate that somebody made for this device, before it takes the place of an older
// one.
func (v *Verifier) Certificate(der []byte, role Role) (Subject, error) {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return Subject{}, failf(ErrUntrusted, "certificate: %v", err)
	}
	return v.Trust().Verify(cert, role, v.clock.Now())
}

// Inspect reads a certificate of the mesh and checks all but time and evictions: form, signature,
// role and identity. It is for one's own certificate: a device whose clock is wrong, or whose user
// was evicted, still has to know who it is. Peers are verified by [Verifier.Subject] and
// [Trust.Verify].
func (v *Verifier) Inspect(der []byte, role Role) (Subject, error) {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return Subject{}, failf(ErrUntrusted, "certificate: %v", err)
	}
	s, err := v.Trust().inspect(cert, role)
	return s, err
}
