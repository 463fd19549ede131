package identity

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"io"
	"slices"

	"ztm/tunnel/identity/document"
	"ztm/tunnel/unixtime"
)

// Limits of a trust list.
const (
	MaxTrust     = 4 << 20 // bytes of a document
	maxCAs       = 64      // a mesh that rotates its CA every year needs 20
	maxEvictions = 45_000
	maxVersion   = 1<<53 - 1 // the largest integer that every JSON reader reads right
)

// The contexts of signatures (see signed).
const (
	listContext    = "ztm trust list v1"
	endorseContext = "ztm ca rotation v1"
)

// list is the payload of a trust list as it is signed by the newest CA.
type list struct {
	Mesh      ID               `json:"mesh"`
	Version   uint64           `json:"version"`
	Issued    unixtime.Seconds `json:"issued"`
	CAs       []listCA         `json:"cas"` // newest first, at least one
	Evictions []eviction       `json:"evictions,omitempty"`
}

// listCA is one CA of the mesh. An old CA stays in the list after it has retired: a device that was
// away since then knows no other, and finds its way to the newest by the endorsements.
type listCA struct {
	Certificate []byte           `json:"certificate"`           // DER
	Retire      unixtime.Seconds `json:"retire,omitempty"`      // it is accepted no more from then on; 0 for the newest
	Endorsement []byte           `json:"endorsement,omitempty"` // signature of the CA before it; none for the oldest
}

// eviction cuts off all certificates of a user, or of one endpoint or hub, that were admitted up to
// a time. Exactly one of User and ID is set. Evictions are sorted: users by name, then IDs.
//
// None is ever dropped, though all that it cuts off expires: a signer whose clock was led years
// ahead would bring everybody back whom it drops, and so would one that had not heard of the
// eviction when it renewed. As many as there may be fit a document.
type eviction struct {
	User     string           `json:"user,omitempty"`
	ID       ID               `json:"id,omitempty"`
	Admitted unixtime.Seconds `json:"admitted"`
	note
}

// note is what people should know of an eviction. Nothing is decided by it.
type note struct {
	Hub    bool             `json:"hub,omitempty"`    // ID is that of a hub
	Name   string           `json:"name,omitempty"`   // of the endpoint, when it was evicted
	Owner  string           `json:"owner,omitempty"`  // the user of the endpoint
	At     unixtime.Seconds `json:"at,omitempty"`     // when it was evicted
	By     ID               `json:"by,omitempty"`     // the endpoint that evicted it
	Reason string           `json:"reason,omitempty"` // in the words of a person
}

// endorsement is what the CA before signs to put the next in its place.
func endorsement(mesh ID, der []byte) []byte {
	return document.Message(endorseContext, append([]byte(string(mesh)+"\x00"), der...))
}

// maxHead bounds what stands before the evictions of a list, in bytes: a CA and its endorsement
// take less than a kilobyte.
const maxHead = maxCAs << 10

// parseHead reads a list up to its evictions. Nothing in it is to be believed yet, not even that
// there is nothing twice in it.
func parseHead(payload []byte) (*list, error) {
	l := new(list)
	d := json.NewDecoder(io.LimitReader(bytes.NewReader(payload), maxHead))
	if open, err := d.Token(); err != nil || open != json.Delim('{') {
		return nil, document.ErrForm
	}
	for _, f := range []struct {
		name string
		into any
	}{{"mesh", &l.Mesh}, {"version", &l.Version}, {"issued", &l.Issued}, {"cas", &l.CAs}} {
		if name, err := d.Token(); err != nil || name != f.name {
			return nil, document.ErrForm
		}
		if err := d.Decode(f.into); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// checkCAs checks the form of a list up to its evictions and returns its CAs, none of which is to
// be trusted yet.
func (l *list) checkCAs() ([]*x509.Certificate, error) {
	switch {
	case l.Version == 0 || l.Version > maxVersion:
		return nil, failf(ErrTrust, "trust list: version %d is out of range", l.Version)
	case len(l.CAs) == 0 || len(l.CAs) > maxCAs:
		return nil, failf(ErrTrust, "trust list: has %d CAs, want 1 to %d", len(l.CAs), maxCAs)
	}
	cas := make([]*x509.Certificate, len(l.CAs))
	for i, ca := range l.CAs {
		cert, mesh, err := checkCA(ca.Certificate)
		if err != nil {
			return nil, failf(ErrTrust, "trust list: %v", err)
		}
		oldest := i == len(l.CAs)-1
		if mesh != l.Mesh || (ca.Retire == 0) != (i == 0) || (len(ca.Endorsement) == 0) != oldest {
			return nil, failf(ErrTrust, "trust list: CA %d is malformed or out of order", i)
		}
		if slices.ContainsFunc(cas[:i], func(c *x509.Certificate) bool { return sameKey(c, cert) }) {
			return nil, failf(ErrTrust, "trust list: CA %d is there twice", i)
		}
		cas[i] = cert
	}
	return cas, nil
}

// leads checks that the list's newest CA was put in place by a line of CAs that begins with the
// trusted one. A list in which the trusted CA does not appear is another branch, even if
// an earlier CA has endorsed it.
func (l *list) leads(cas []*x509.Certificate, trusted *x509.Certificate) bool {
	i := slices.IndexFunc(cas, func(c *x509.Certificate) bool { return bytes.Equal(c.Raw, trusted.Raw) })
	if i < 0 {
		return false
	}
	for ; i > 0; i-- {
		next := l.CAs[i-1]
		if !ed25519.Verify(publicKey(cas[i]), endorsement(l.Mesh, next.Certificate), next.Endorsement) {
			return false
		}
	}
	return true
}

// publicKey returns the key of a certificate that passed plain.
func publicKey(cert *x509.Certificate) ed25519.PublicKey { return cert.PublicKey.(ed25519.PublicKey) }

// sameKey reports whether two CAs cannot be told apart by key or by key identifier.
func sameKey(a, b *x509.Certificate) bool {
	return publicKey(a).Equal(publicKey(b)) || bytes.Equal(a.SubjectKeyId, b.SubjectKeyId)
}
