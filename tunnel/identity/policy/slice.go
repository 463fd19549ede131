package policy

import (
	"fmt"
	"slices"
	"strings"

	"ztm/tunnel/identity"
	"ztm/tunnel/unixtime"
)

// Limits of a slice.
const (
	MaxSlice = 1 << 20 // bytes of its signed document: a router has to parse it
	MaxAsked = 256     // terms that the rules of an endpoint name
)

// Slice is what of a source concerns one endpoint: the grants for it, and the groups and places that
// these and the endpoint's own rules name. It is good for one head only.
type Slice struct {
	Head     string                   `json:"head"` // sum of the head's document
	Endpoint identity.ID              `json:"endpoint"`
	Mode     string                   `json:"mode"`
	Labels   []string                 `json:"labels"` // of the endpoint, those that give rights
	Asked    []string                 `json:"asked"`  // the terms of its own rules, as it has told them
	Groups   map[string]Group         `json:"groups"` // by name
	Places   map[string][]identity.ID `json:"places"` // who is meant by a term of From, or a label of the rules
	Ends     Ends                     `json:"ends"`   // of users whose access ends
	Grants   []Given                  `json:"grants"`

	ids int // in Places; with more than maxIDs no more are added
}

// maxIDs is the most that a slice could have, of 32 characters each.
const maxIDs = MaxSlice / 32

// Given is a grant as an endpoint has it: whether it is meant is decided already.
type Given struct {
	Name  string           `json:"name"`
	Who   []Who            `json:"who"`
	To    []string         `json:"to"`
	From  []string         `json:"from"`
	Until unixtime.Seconds `json:"until,omitempty"`
}

// Slice returns what of a source that was checked concerns an endpoint. asked are the terms that
// the endpoint's own rules name; what the policy does not know of them is left out. A holder that cuts
// many slices of one source uses a [Cutter].
func (s *Source) Slice(head *Signed, id identity.ID, asked []string) *Slice {
	return s.Cutter().Slice(head, id, asked)
}

// addGroup adds the group of a term. One that is for grants alone is not told to an endpoint that
// asks for it.
func (s *Source) addGroup(to *Slice, term string, granted bool) {
	name, isGroup := strings.CutPrefix(term, GroupPrefix)
	g, known := s.Groups[name]
	if isGroup && known && (granted || g.Visible == "") {
		to.Groups[name] = g
	}
}

// means reports whether a term of At or From is about an endpoint; one that is not pinned has no
// name.
func means(term, name string, e Endpoint) bool {
	labels, isLabel := strings.CutPrefix(term, LabelPrefix)
	if !isLabel {
		return term == Anybody || term == name
	}
	for l := range strings.SplitSeq(labels, "+") {
		if !slices.Contains(e.Labels, l) {
			return false
		}
	}
	return true
}

// Sign signs a slice, as the holder of the CA key. Errors match [ErrSource] where it is too large.
func (s *Slice) Sign(ca *identity.CA) ([]byte, error) {
	var doc []byte
	var err error
	if s.ids <= maxIDs {
		doc, err = ca.Sign(sliceContext, s)
	}
	if err == nil && (s.ids > maxIDs || len(doc) > MaxSlice) {
		err = failf("what concerns endpoint %s is larger than %d bytes", s.Endpoint, MaxSlice)
	}
	return doc, err
}

// OpenSlice reads the slice of a head for an endpoint, signed by the CA that has signed the head.
// Errors match [ErrSource] or [identity.ErrUntrusted].
func OpenSlice(trust *identity.Trust, head *Signed, id identity.ID, doc []byte) (*Slice, error) {
	if len(doc) > MaxSlice {
		return nil, failf("the slice is larger than %d bytes", MaxSlice)
	}
	s := new(Slice)
	by, err := trust.Signed(sliceContext, doc, s)
	if err != nil {
		return nil, err
	}
	switch {
	case by != head.By || s.Head != head.Sum:
		return nil, failf("the slice is not of version %d", head.Version)
	case s.Endpoint != id:
		return nil, failf("the slice is of endpoint %s", s.Endpoint)
	case s.Mode != GroupsOnly && s.Mode != Observe && s.Mode != Enforce || s.Groups == nil || s.Places == nil || !s.Ends.good():
		return nil, failf("the slice is malformed")
	}
	for _, g := range s.Grants {
		if len(g.Who) == 0 || len(g.To) == 0 || len(g.From) == 0 {
			return nil, fmt.Errorf("grant %s: %w", clip(g.Name), failf("an empty list"))
		}
	}
	return s, nil
}
