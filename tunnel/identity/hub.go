package identity

import (
	"crypto/ed25519"
	"crypto/x509"
	"fmt"

	"ztm/tunnel/identity/document"
	"ztm/tunnel/unixtime"
)

// Limits of a hub record and of what an endpoint signs when it attaches.
const (
	MaxHubRecord     = 4 << 10 // bytes of a signed hub record
	MaxAttach        = 512     // bytes of a signed Attach
	MaxHubWeight     = 1000
	maxHubNames      = 8
	maxInstanceBytes = 32
	maxHubZone       = 32 // bytes
)

const (
	hubContext    = "ztm hub record v1"
	attachContext = "ztm attach v1"
)

// HubRecord is what a hub says of itself. It signs it, so that other hubs can pass it on and agents
// can believe it. A record is no reason to trust a hub: that is its certificate, in the handshake.
type HubRecord struct {
	ID          ID              `json:"id"`
	Names       []string        `json:"names"`          // host:port under which agents and hubs reach it
	Zone        string          `json:"zone,omitempty"` // where it runs; hubs of one zone may fail together
	Version     string          `json:"version,omitempty"`
	Weight      int             `json:"weight,omitempty"`   // its share of the agents, 1 to MaxHubWeight; 0 is 1
	Draining    bool            `json:"draining,omitempty"` // it is about to end and takes nobody any longer
	Time        unixtime.Millis `json:"time"`               // of two records the later one counts
	Certificate []byte          `json:"certificate"`        // DER of the hub's certificate
}

// SignHubRecord returns the signed form of a hub's record, of at most [MaxHubRecord] bytes. The
// record's ID must be that of the key. Errors match [ErrRecord].
func SignHubRecord(r HubRecord, key ed25519.PrivateKey) (doc []byte, err error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	return signOwn("hub record", hubContext, r.ID, r, key, MaxHubRecord)
}

// HubRecord reads the signed record of a hub and verifies its certificate and its signature. Errors
// match [ErrRecord] or are what [Trust.Verify] returns.
func (v *Verifier) HubRecord(doc []byte) (HubRecord, Subject, error) {
	if len(doc) > MaxHubRecord {
		return HubRecord{}, Subject{}, failf(ErrRecord, "hub record is larger than %d bytes", MaxHubRecord)
	}
	var r HubRecord
	signed, err := document.Parse(doc, &r)
	if err != nil {
		return HubRecord{}, Subject{}, failf(ErrRecord, "hub record: %v", err)
	}
	if err := r.check(); err != nil {
		return HubRecord{}, Subject{}, err
	}
	cert, err := x509.ParseCertificate(r.Certificate)
	if err != nil {
		return HubRecord{}, Subject{}, failf(ErrRecord, "hub record: certificate: %v", err)
	}
	s, err := v.Trust().Verify(cert, RoleHub, v.clock.Now())
	switch {
	case err != nil:
		return HubRecord{}, Subject{}, fmt.Errorf("hub record: %w", err)
	case r.ID != s.ID:
		return HubRecord{}, Subject{}, failf(ErrRecord, "hub record: is for ID %s but its certificate for %s", r.ID, s.ID)
	case !signed.Verify(hubContext, s.Key):
		return HubRecord{}, Subject{}, failf(ErrRecord, "hub record: is not signed by the hub's key")
	}
	return r, s, nil
}

// check checks the limits of a record. Its text is for people's terminals, and its names are
// dialled.
func (r *HubRecord) check() error {
	if _, err := ParseID(string(r.ID)); err != nil {
		return failf(ErrRecord, "hub record: %v", err)
	}
	if len(r.Names) == 0 || len(r.Names) > maxHubNames {
		return failf(ErrRecord, "hub record: has %d names, want 1 to %d", len(r.Names), maxHubNames)
	}
	for _, n := range r.Names {
		if err := CheckHostPort(n); err != nil {
			return failf(ErrRecord, "hub record: name %v", err)
		}
	}
	if err := CheckZone(r.Zone); err != nil {
		return failf(ErrRecord, "hub record: %v", err)
	}
	if !Printable(r.Version, 0, maxVersionBytes) {
		return failf(ErrRecord, "hub record: version is not %d bytes of printable text", maxVersionBytes)
	}
	if r.Weight < 0 || r.Weight > MaxHubWeight {
		return failf(ErrRecord, "hub record: weight %d is not from 0 to %d", r.Weight, MaxHubWeight)
	}
	return nil
}

// CheckZone checks the zone of a hub: printable text of at most 32 bytes, or "" for none.
func CheckZone(zone string) error {
	if !Printable(zone, 0, maxHubZone) {
		return fmt.Errorf("zone %.80q is not up to %d bytes of printable text", zone, maxHubZone)
	}
	return nil
}

// Attach is what an endpoint says when it attaches to a hub. It signs it, so that a hub cannot
// claim endpoints that never came to it, and so that two processes with one key are seen.
type Attach struct {
	ID       ID              `json:"id"`
	Hub      ID              `json:"hub"`
	Instance string          `json:"instance"` // random, of the endpoint's process
	Since    unixtime.Millis `json:"since"`    // when that process started, by its clock
}

// SignAttach returns the signed form, of at most [MaxAttach] bytes. Errors match [ErrRecord].
func SignAttach(a Attach, key ed25519.PrivateKey) (doc []byte, err error) {
	if err := a.check(); err != nil {
		return nil, err
	}
	return signOwn("attach", attachContext, a.ID, a, key, MaxAttach)
}

// OpenAttach reads what an endpoint with a key has signed for a hub. The key comes from a verified
// certificate. Errors match [ErrRecord].
func OpenAttach(doc []byte, key ed25519.PublicKey, hub ID) (Attach, error) {
	if len(doc) > MaxAttach {
		return Attach{}, failf(ErrRecord, "attach is larger than %d bytes", MaxAttach)
	}
	var a Attach
	signed, err := document.Parse(doc, &a)
	if err != nil {
		return Attach{}, failf(ErrRecord, "attach: %v", err)
	}
	if err := a.check(); err != nil {
		return Attach{}, err
	}
	switch {
	case len(key) != ed25519.PublicKeySize || a.ID != IDOf(key) || !signed.Verify(attachContext, key):
		return Attach{}, failf(ErrRecord, "attach: is not signed by the endpoint's key")
	case a.Hub != hub:
		return Attach{}, failf(ErrRecord, "attach: is for hub %s, not %s", a.Hub, hub)
	}
	return a, nil
}

func (a *Attach) check() error {
	for _, id := range []ID{a.ID, a.Hub} {
		if _, err := ParseID(string(id)); err != nil {
			return failf(ErrRecord, "attach: %v", err)
		}
	}
	if !Printable(a.Instance, 1, maxInstanceBytes) {
		return failf(ErrRecord, "attach: instance is not 1 to %d bytes of printable text", maxInstanceBytes)
	}
	return nil
}
