package identity

import (
	"crypto/ed25519"
	"crypto/x509"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"ztm/tunnel/identity/document"
	"ztm/tunnel/unixtime"
)

// Limits of an endpoint record.
const (
	MaxRecord       = 16 << 10 // bytes of a signed record
	maxLabels       = 32
	maxLabelBytes   = 63
	maxOffers       = 256
	maxOfferBytes   = 128
	maxVersionBytes = 64
)

const recordContext = "ztm endpoint record v1"

// Record is what an endpoint says of itself in the directory. The endpoint signs it, so that a hub
// can withhold it but not forge it.
type Record struct {
	ID          ID              `json:"id"`
	Name        string          `json:"name"`
	Labels      []string        `json:"labels,omitempty"`
	Offers      []string        `json:"offers,omitempty"` // for example "tunnel/tcp/web"
	Version     string          `json:"version,omitempty"`
	Signer      bool            `json:"signer,omitempty"`    // holds the mesh's CA key
	Ephemeral   bool            `json:"ephemeral,omitempty"` // a hub forgets it some time after it has disconnected
	Time        unixtime.Millis `json:"time"`                // of two records the later one counts
	Certificate []byte          `json:"certificate"`         // DER of the endpoint's certificate
}

// SignRecord returns the signed form of a record, of at most [MaxRecord] bytes. The record's ID
// must be that of the key. Errors match [ErrRecord].
func SignRecord(r Record, key ed25519.PrivateKey) (doc []byte, err error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	return signOwn("endpoint record", recordContext, r.ID, r, key, MaxRecord)
}

// signOwn signs what the device of a key says of itself.
func signOwn(what, context string, id ID, v any, key ed25519.PrivateKey, most int) ([]byte, error) {
	if id != IDOf(key.Public().(ed25519.PublicKey)) {
		return nil, failf(ErrRecord, "%s: ID %s is not that of the key", what, id)
	}
	doc, err := document.Sign(context, v, key)
	if err != nil {
		return nil, failf(ErrRecord, "%s: %v", what, err)
	}
	if len(doc) > most {
		return nil, failf(ErrRecord, "%s is larger than %d bytes", what, most)
	}
	return doc, nil
}

// Record reads a signed record and verifies its certificate and its signature. Errors match
// [ErrRecord] or are what [Trust.Verify] returns.
func (v *Verifier) Record(doc []byte) (Record, Subject, error) {
	return v.readRecord(doc, func(cert *x509.Certificate) (Subject, error) { return v.judge(cert, RoleMember) })
}

// InspectRecord does what [Verifier.Record] does and time and evictions do not change, see
// [Verifier.Inspect]: it reads the record of an endpoint that need not be let in.
func (v *Verifier) InspectRecord(doc []byte) (Record, Subject, error) {
	return v.readRecord(doc, func(cert *x509.Certificate) (Subject, error) { return v.Trust().inspect(cert, RoleMember) })
}

func (v *Verifier) readRecord(doc []byte, verify func(*x509.Certificate) (Subject, error)) (Record, Subject, error) {
	if len(doc) > MaxRecord {
		return Record{}, Subject{}, failf(ErrRecord, "endpoint record is larger than %d bytes", MaxRecord)
	}
	var r Record
	signed, err := document.Parse(doc, &r)
	if err != nil {
		return Record{}, Subject{}, failf(ErrRecord, "endpoint record: %v", err)
	}
	if err := r.check(); err != nil {
		return Record{}, Subject{}, err
	}
	cert, err := x509.ParseCertificate(r.Certificate)
	if err != nil {
		return Record{}, Subject{}, failf(ErrRecord, "endpoint record: certificate: %v", err)
	}
	s, err := verify(cert)
	if err != nil {
		return Record{}, Subject{}, fmt.Errorf("endpoint record: %w", err)
	}
	if r.ID != s.ID {
		return Record{}, Subject{}, failf(ErrRecord, "endpoint record: is for ID %s but its certificate for %s", r.ID, s.ID)
	}
	if !signed.Verify(recordContext, s.Key) {
		return Record{}, Subject{}, failf(ErrRecord, "endpoint record: is not signed by the endpoint's key")
	}
	return r, s, nil
}

// check checks the limits of a record. All its text is for people's terminals, so it must be
// printable.
func (r *Record) check() error {
	if err := CheckName(r.Name); err != nil {
		return failf(ErrRecord, "endpoint record: %v", err)
	}
	if _, err := ParseID(string(r.ID)); err != nil {
		return failf(ErrRecord, "endpoint record: %v", err)
	}
	if len(r.Labels) > maxLabels {
		return failf(ErrRecord, "endpoint record: has %d labels, at most %d are possible", len(r.Labels), maxLabels)
	}
	if len(r.Offers) > maxOffers {
		return failf(ErrRecord, "endpoint record: has %d offers, at most %d are possible", len(r.Offers), maxOffers)
	}
	for _, l := range r.Labels {
		if !Printable(l, 1, maxLabelBytes) {
			return failf(ErrRecord, "endpoint record: label %.80q is not 1 to %d bytes of printable text", l, maxLabelBytes)
		}
	}
	for _, o := range r.Offers {
		if !Printable(o, 1, maxOfferBytes) {
			return failf(ErrRecord, "endpoint record: offer %.80q is not 1 to %d bytes of printable text", o, maxOfferBytes)
		}
	}
	if !Printable(r.Version, 0, maxVersionBytes) {
		return failf(ErrRecord, "endpoint record: version is not %d bytes of printable text", maxVersionBytes)
	}
	return nil
}

// Printable reports whether s is UTF-8 of a length, in bytes, without control and formatting
// characters: people see it as it is.
func Printable(s string, from, to int) bool {
	unprintable := func(c rune) bool { return !strconv.IsPrint(c) }
	return from <= len(s) && len(s) <= to && utf8.ValidString(s) && !strings.ContainsFunc(s, unprintable)
}
