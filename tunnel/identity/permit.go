package identity

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"ztm/tunnel/identity/document"
)

// Limits of a permit.
const (
	MaxPermit      = 8 << 20 // bytes; a trust list of MaxTrust fits
	permitVersion  = 1
	maxBootstraps  = 64
	maxDomainBytes = 253
	maxZoneBytes   = 15 // an interface name
)

// Permit is the file with which a device joins a mesh. It holds what the device must trust and one
// or more of: the certificate of an endpoint, the certificate of a hub, the CA's key (the root
// permit), a join token. The last two are secrets.
type Permit struct {
	Version    int          `json:"version"`
	Mesh       ID           `json:"mesh"`
	CA         string       `json:"ca"`               // PEM of the mesh's newest CA
	Bootstraps []string     `json:"bootstraps"`       // host:port of the hub, in the order to try
	Trust      []byte       `json:"trust,omitempty"`  // the trust list when the permit was made, if there was one
	Policy     []byte       `json:"policy,omitempty"` // the head of the policy then, if there was one; who reads the permit checks it
	Agent      *PermitAgent `json:"agent,omitempty"`
	Hub        *PermitHub   `json:"hub,omitempty"`
	CAKey      string       `json:"caKey,omitempty"` // PEM
	Token      *Token       `json:"token,omitempty"`
}

// PermitAgent is the part of a permit that is made for one device.
type PermitAgent struct {
	Certificate string `json:"certificate"` // PEM
}

// ParsePermit reads a permit and checks everything in it that does not depend on the device or the
// time. Errors match [ErrPermit] and say what is wrong in words for the person who was given the
// file.
func ParsePermit(b []byte) (*Permit, error) {
	if len(b) > MaxPermit {
		return nil, failf(ErrPermit, "permit is larger than %d bytes", MaxPermit)
	}
	if len(bytes.TrimSpace(b)) == 0 {
		return nil, failf(ErrPermit, "permit is empty")
	}
	// The version first: a permit of a later one may have fields that are unknown here.
	var head struct {
		Version *int `json:"version"`
	}
	if err := json.Unmarshal(b, &head); err != nil {
		return nil, permitError(err)
	}
	if head.Version == nil {
		return nil, failf(ErrPermit, "permit has no version: it was not made by ztm invite or ztm run hub")
	}
	if *head.Version != permitVersion {
		return nil, failf(ErrPermit, "permit has version %d and this ztm knows version %d only", *head.Version, permitVersion)
	}
	p := new(Permit)
	if err := document.JSON(b, p); err != nil {
		return nil, permitError(err)
	}
	if err := p.check(); err != nil {
		return nil, err
	}
	return p, nil
}

// permitError says in a person's words why JSON could not be read.
func permitError(err error) error {
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return failf(ErrPermit, "permit is truncated or not JSON")
	}
	var typ *json.UnmarshalTypeError
	if errors.As(err, &typ) {
		if typ.Field == "" {
			return failf(ErrPermit, "permit is not a JSON object")
		}
		return failf(ErrPermit, "permit: field %q has the wrong type", typ.Field)
	}
	return failf(ErrPermit, "permit: %v", err)
}

// Marshal returns the permit as indented JSON. It refuses a permit that [ParsePermit] would refuse.
// A Version of 0 becomes the current one.
func (p *Permit) Marshal() ([]byte, error) {
	out := *p
	if out.Version == 0 {
		out.Version = permitVersion
	}
	if err := out.check(); err != nil {
		return nil, err
	}
	b, err := json.MarshalIndent(&out, "", "  ")
	if err != nil {
		return nil, failf(ErrPermit, "permit: %v", err)
	}
	if len(b) >= MaxPermit {
		return nil, failf(ErrPermit, "permit is larger than %d bytes", MaxPermit)
	}
	return append(b, '\n'), nil
}

// CheckMesh checks that the permit is for the mesh a caller wants. The error matches
// [ErrWrongMesh].
func (p *Permit) CheckMesh(want ID) error {
	if p.Mesh != want {
		return failf(ErrWrongMesh, "permit is for mesh %s, not %s", p.Mesh, want)
	}
	return nil
}

// CheckCertificate checks that the permit's certificate is for this device's key and valid now, and
// returns who the device becomes. Errors match [ErrWrongID], [ErrPermit] where there is no
// certificate, or what [Trust.Verify] returns.
func (p *Permit) CheckCertificate(key ed25519.PublicKey, now time.Time) (Subject, error) {
	if p.Hub != nil {
		return Subject{}, failf(ErrPermit, "permit is for a hub, which starts with: ztm run hub --permit FILE")
	}
	if p.Agent == nil {
		return Subject{}, failf(ErrPermit, "permit has no certificate")
	}
	_, s, err := p.verify(p.Agent.Certificate, RoleMember, now)
	if err != nil {
		return Subject{}, err
	}
	if !s.Key.Equal(key) {
		return Subject{}, failf(ErrWrongID, "permit is for another device: its certificate is for ID %s, this device is %s",
			s.ID, IDOf(key))
	}
	return s, nil
}

// check checks that a permit is complete and does not contradict itself.
func (p *Permit) check() error {
	if p.Version != permitVersion {
		return failf(ErrPermit, "permit has version %d and this ztm knows version %d only", p.Version, permitVersion)
	}
	if p.CA == "" {
		return failf(ErrPermit, "permit has no CA certificate")
	}
	t, err := ParseTrust([]byte(p.CA), p.Trust)
	if err != nil {
		return failf(ErrPermit, "permit: %v", err)
	}
	if p.Mesh != t.Mesh() {
		return failf(ErrPermit, "permit contradicts itself: it is for mesh %q but its CA is of mesh %s", p.Mesh, t.Mesh())
	}
	if len(p.Bootstraps) == 0 || len(p.Bootstraps) > maxBootstraps {
		return failf(ErrPermit, "permit has %d bootstraps, want 1 to %d", len(p.Bootstraps), maxBootstraps)
	}
	for _, b := range p.Bootstraps {
		if err := CheckHostPort(b); err != nil {
			return failf(ErrPermit, "permit: bootstrap %v", err)
		}
	}
	if p.Agent == nil && p.Hub == nil && p.CAKey == "" && p.Token == nil {
		return failf(ErrPermit, "permit has neither a certificate nor a CA key nor a join token")
	}
	return p.checkGrants(t)
}

// checkGrants checks what the permit gives beside trust.
func (p *Permit) checkGrants(t *Trust) error {
	if p.Agent != nil {
		cert, err := parseCertificate([]byte(p.Agent.Certificate))
		if err != nil {
			return failf(ErrPermit, "permit: certificate: %v", err)
		}
		if _, err := t.inspect(cert, RoleMember); err != nil {
			return failf(ErrPermit, "permit: %v", err)
		}
	}
	if p.Hub != nil {
		if err := p.Hub.check(t); err != nil {
			return err
		}
	}
	if p.CAKey != "" {
		if _, err := ParseCA([]byte(p.CA), []byte(p.CAKey)); err != nil {
			return failf(ErrPermit, "permit: %v", err)
		}
	}
	if p.Token != nil && p.Token.Mesh() != p.Mesh {
		return failf(ErrPermit, "permit is for mesh %s but its join token is for mesh %s", p.Mesh, p.Token.Mesh())
	}
	return nil
}

// CheckHostPort checks the form of an address to dial: host:port, where the host is a domain name
// or an IP address (an IPv6 address in brackets) and the port a number from 1 to 65535.
func CheckHostPort(s string) error {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return fmt.Errorf("%q is not host:port", s)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("%q has no port from 1 to 65535", s)
	}
	if addr, err := netip.ParseAddr(host); err == nil && Printable(addr.Zone(), 0, maxZoneBytes) {
		return nil
	}
	odd := func(c rune) bool {
		return !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '.' || c == '-' || c == '_')
	}
	if host == "" || len(host) > maxDomainBytes || strings.ContainsFunc(host, odd) {
		return fmt.Errorf("%q has no host name or IP address", s)
	}
	return nil
}

// Format writes what may be seen of a permit, for every verb.
func (p Permit) Format(f fmt.State, _ rune) { io.WriteString(f, p.String()) }

// String names the permit's mesh and hub, and none of its secrets.
func (p Permit) String() string {
	return fmt.Sprintf("permit for mesh %s at %s", p.Mesh, strings.Join(p.Bootstraps, ", "))
}

// LogValue names the permit's mesh and hub, and none of its secrets.
func (p Permit) LogValue() slog.Value { return slog.StringValue(p.String()) }

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
	der, s, err := p.verify(p.Hub.Certificate, RoleHub, now)
	if err == nil && !s.Key.Equal(key) {
		return nil, failf(ErrWrongID, "permit is for another hub: its certificate is for ID %s, this hub is %s", s.ID, IDOf(key))
	}
	return der, err
}

// verify checks a certificate of the permit by what else is in it.
func (p *Permit) verify(text string, role Role, now time.Time) (der []byte, s Subject, err error) {
	t, err := ParseTrust([]byte(p.CA), p.Trust)
	if err != nil {
		return nil, s, fmt.Errorf("permit: %w", err)
	}
	cert, err := parseCertificate([]byte(text))
	if err != nil {
		return nil, s, failf(ErrPermit, "permit: certificate: %v", err)
	}
	if s, err = t.Verify(cert, role, now); err != nil {
		return nil, s, fmt.Errorf("permit: %w", err)
	}
	return cert.Raw, s, nil
}
