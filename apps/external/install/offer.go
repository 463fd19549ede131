package install

import (
	"bytes"
	"encoding/hex"
	"maps"
	"slices"
	"strconv"
	"strings"

	"ztm/apps/external/bundle"
	"ztm/apps/external/manifest"
	"ztm/tunnel/answer"
)

// Offer is what a signed bundle would change here.
type Offer struct {
	Manifest  manifest.Manifest `json:"manifest"`
	Bytes     int64             `json:"bytes"` // of all files
	Files     int               `json:"files"`
	Digest    string            `json:"digest"`              // names exactly this version: the owner agrees to it
	Installed uint64            `json:"installed,omitempty"` // the sequence number of what is here; 0 is nothing
	Asks      []string          `json:"asks,omitempty"`      // for people: what it may do beyond what was agreed to
	Refusal   string            `json:"refusal,omitempty"`   // why it cannot be installed as it is
}

// Examine verifies a signed bundle, and says what it would change.
func (s *Store) Examine(signed bundle.Signed) (Offer, error) {
	b, err := bundle.Open(s.config.Notary, signed)
	if err != nil {
		return Offer{}, answer.Errorf(answer.Denied, "%v", err)
	}
	digest, err := b.Digest()
	if err != nil {
		return Offer{}, err
	}
	o := Offer{Manifest: b.Manifest, Bytes: b.Bytes(), Files: len(b.Files), Digest: hex.EncodeToString(digest)}
	old, err := s.before(b.Manifest.ID())
	if err != nil {
		return Offer{}, err
	}
	o.Installed = old.Manifest.Sequence
	o.Asks = b.Manifest.Rights.Beyond(old.Granted)
	if err := s.allowed(b, digest, &old, false); err != nil {
		o.Refusal = err.Error()
	}
	return o, nil
}

// before returns the app that is here; the zero value where there is none.
func (s *Store) before(id string) (App, error) {
	a, err := s.Get(id)
	if answer.CodeOf(err) == answer.NotFound {
		return App{}, nil
	}
	return a, err
}

// allowed says why a bundle may not follow what is installed. down allows an older version.
func (s *Store) allowed(b *bundle.Bundle, digest []byte, old *App, down bool) error {
	m := &b.Manifest
	if _, ok := m.Program(s.config.OS, s.config.Arch); !ok {
		systems := slices.Sorted(maps.Keys(m.Exec))
		return answer.Errorf(answer.NotFound, "the app %s has no program for %s/%s, only for %s", m.ID(), s.config.OS, s.config.Arch, strings.Join(systems, ", "))
	}
	if seen, ok := old.Digests[strconv.FormatUint(m.Sequence, 10)]; ok && !bytes.Equal(seen, digest) {
		return answer.Errorf(answer.Denied, "sequence %d of %s was another version before: the provider has to publish it under a new number", m.Sequence, m.ID())
	}
	switch have := old.Manifest.Sequence; {
	case have == 0:
		return nil
	case m.Sequence < have && !down:
		return answer.Errorf(answer.Denied, "sequence %d of %s is older than what is installed (%d); --allow-downgrade takes it all the same", m.Sequence, m.ID(), have)
	case m.Sequence == have:
		return nil // the files are brought back
	}
	if old.Problem != "" {
		return nil // its signature is lost with its files
	}
	return s.trusted(old)
}
