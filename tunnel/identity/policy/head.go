package policy

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"

	"ztm/tunnel/identity"
	"ztm/tunnel/unixtime"
)

const (
	headContext  = "ztm policy head v1"
	sliceContext = "ztm policy slice v1"

	MaxHead = 4 << 10 // bytes of a signed head
)

// Head says which source is in force. It is signed by the mesh's newest CA.
type Head struct {
	Mesh     identity.ID      `json:"mesh"`
	Version  uint64           `json:"version"` // from 1; each new one is higher
	Issued   unixtime.Seconds `json:"issued"`
	Trust    uint64           `json:"trust"`            // the version of the trust list that its maker had
	Previous string           `json:"previous"`         // sum of the head before, "" of the first
	Source   string           `json:"source"`           // sum of the source's document
	Mode     string           `json:"mode"`             // that of the source: who has no slice knows whether it may let anybody in
	Direct   string           `json:"direct,omitempty"` // that of the source, for everybody
}

// Sum is the SHA-256 of a document, in hex.
func Sum(doc []byte) string {
	sum := sha256.Sum256(doc)
	return hex.EncodeToString(sum[:])
}

// Signed is a head that was verified, with its document.
type Signed struct {
	Head
	Document []byte      // not to be changed
	Sum      string      // of Document
	By       identity.ID // the CA that has signed it
}

// Newer reports whether s takes the place of another head, which may be nil. Of two heads of one
// version that with the greater sum counts: two holders of the CA key made them at once, and all
// endpoints end at the same one.
func (s *Signed) Newer(other *Signed) bool {
	return other == nil || s.Version > other.Version || s.Version == other.Version && s.Sum > other.Sum
}

// Sign signs a head, as the holder of the CA key.
func (h Head) Sign(ca *identity.CA, trust *identity.Trust) (*Signed, error) {
	doc, err := ca.Sign(headContext, h)
	if err != nil {
		return nil, err
	}
	return OpenHead(trust, doc) // as everybody else will
}

// OpenHead reads a head that a CA of the mesh has signed. The caller looks at By: a head that is new
// is good only from the newest CA. Errors match [ErrSource] or [identity.ErrUntrusted].
func OpenHead(trust *identity.Trust, doc []byte) (*Signed, error) {
	if len(doc) > MaxHead {
		return nil, failf("the head is larger than %d bytes", MaxHead)
	}
	s := &Signed{Document: bytes.Clone(doc), Sum: Sum(doc)}
	var err error
	if s.By, err = trust.Signed(headContext, doc, &s.Head); err != nil {
		return nil, err
	}
	switch {
	case s.Mesh != trust.Mesh():
		return nil, failf("the head is of another mesh")
	case s.Version == 0 || s.Version > maxVersion || s.Issued <= 0:
		return nil, failf("the head has no version or time")
	case s.Mode != GroupsOnly && s.Mode != Observe && s.Mode != Enforce:
		return nil, failf("the head has no mode")
	case checkDirect(s.Direct) != nil:
		return nil, checkDirect(s.Direct)
	case !isSum(s.Source) || s.Previous != "" && !isSum(s.Previous):
		return nil, failf("the head has no sums")
	}
	return s, nil
}

func isSum(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == sha256.Size
}
