package identity

import (
	"crypto/ed25519"
	"fmt"
	"time"
)

// PermitHub is the part of a permit with which another hub of the mesh starts. It is for one key,
// and no secret.
type PermitHub struct {
	Certificate string   `json:"certificate"`     // PEM
	Names       []string `json:"names,omitempty"` // host:port under which agents are to reach it
}

func (h *PermitHub) check(t *Trust) error {
	cert, err := parseCertificate([]byte(h.Certificate))
	if err != nil {
		return failf(ErrPermit, "permit: certificate: %v", err)
	}
	if _, err := t.inspect(cert, RoleHub); err != nil {
		return failf(ErrPermit, "permit: %v", err)
	}
	if len(h.Names) > maxHubNames {
		return failf(ErrPermit, "permit has %d names of the hub, at most %d are possible", len(h.Names), maxHubNames)
	}
	for _, n := range h.Names {
		if err := CheckHostPort(n); err != nil {
			return failf(ErrPermit, "permit: name %v", err)
		}
	}
	return nil
}

// CheckHub checks that the permit's certificate is for this hub's key and valid now, and returns it
// in DER. Errors match [ErrWrongID], [ErrPermit] where there is none, or what [Trust.Verify] returns.
func (p *Permit) CheckHub(key ed25519.PublicKey, now time.Time) (der []byte, err error) {
	if p.Hub == nil {
		return nil, failf(ErrPermit, "permit is not for a hub")
	}
	t, err := ParseTrust([]byte(p.CA), p.Trust)
	if err != nil {
		return nil, fmt.Errorf("permit: %w", err)
	}
	cert, err := parseCertificate([]byte(p.Hub.Certificate))
	if err != nil {
		return nil, failf(ErrPermit, "permit: certificate: %v", err)
	}
	s, err := t.Verify(cert, RoleHub, now)
	if err != nil {
		return nil, fmt.Errorf("permit: %w", err)
	}
	if !s.Key.Equal(key) {
		return nil, failf(ErrWrongID, "permit is for another hub: its certificate is for ID %s, this hub is %s", s.ID, IDOf(key))
	}
	return cert.Raw, nil
}
