package policy

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"ztm/tunnel/identity"
	"ztm/tunnel/identity/identitytest"
	"ztm/tunnel/unixtime"
)

const db = identity.ID("abcdefghijklmnopqrstuvwxyz234567")
const other = identity.ID("bbcdefghijklmnopqrstuvwxyz234567")

// signed is the example under a head of a mesh of its own.
func signed(t *testing.T, s *Source) (*identity.CA, *identity.Trust, *Signed) {
	t.Helper()
	m := identitytest.New(t, time.Now())
	doc, err := s.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	head, err := Head{Mesh: m.CA.Mesh(), Version: 1, Issued: unixtime.Of(m.Made), Source: Sum(doc)}.Sign(m.CA, m.Trust)
	if err != nil {
		t.Fatal(err)
	}
	return m.CA, m.Trust, head
}

func TestAMemberThatAsksForEverythingCostsNoMoreThanASlice(t *testing.T) {
	s := example()
	for i := range 2000 {
		s.Endpoints[fmt.Sprint("e", i)] = Endpoint{ID: identity.IDOf(ed25519.PublicKey(fmt.Sprintf("%032d", i))), Labels: []string{"x"}}
	}
	ca, _, head := signed(t, s)
	var asked []string
	for i := range MaxAsked {
		asked = append(asked, "label:x"+strings.Repeat("+x", i))
	}
	out, ids := s.Slice(head, other, asked), 0
	for _, p := range out.Places {
		ids += len(p)
	}
	if most := MaxSlice/len(db) + len(s.Endpoints); ids > most {
		t.Errorf("the slice has %d IDs, more than the %d with which it is too large", ids, most)
	}
	if _, err := out.Sign(ca); !errors.Is(err, ErrSource) {
		t.Errorf("it is signed: %v", err)
	}
}

func TestASliceHasNothingThatDoesNotConcernItsEndpoint(t *testing.T) {
	s := example()
	s.Groups["staff"] = Group{Members: []Member{}}
	s.Groups["hidden"] = Group{Members: []Member{}, Visible: "root"}
	_, _, head := signed(t, s)
	for id, want := range map[identity.ID][]string{db: {"ops"}, other: nil} {
		got := s.Slice(head, id, nil)
		if !slices.Equal(slices.Sorted(maps.Keys(got.Groups)), want) || len(got.Grants) != len(want) {
			t.Errorf("%s has groups %v and %d grants", id, got.Groups, len(got.Grants))
		}
	}
	got := s.Slice(head, other, []string{"group:staff", "group:hidden", "group:unknown", "label:role=db"})
	if !slices.Equal(slices.Sorted(maps.Keys(got.Groups)), []string{"staff"}) {
		t.Errorf("who asked for groups got %v", got.Groups)
	}
	if !slices.Equal(got.Places["label:role=db"], []identity.ID{db}) {
		t.Errorf("who asked for a label got %v", got.Places)
	}
}

func TestASliceIsGoodForItsHeadItsEndpointAndItsCAAlone(t *testing.T) {
	s := example()
	ca, trust, head := signed(t, s)
	doc, err := s.Slice(head, db, nil).Sign(ca)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OpenSlice(trust, head, db, doc); err != nil {
		t.Fatal(err)
	}
	next := head.Head
	next.Version, next.Previous = 2, head.Sum
	newer, err := next.Sign(ca, trust)
	if err != nil {
		t.Fatal(err)
	}
	outsiderCA, outsiders, strange := signed(t, s)
	forged, err := s.Slice(head, db, nil).Sign(outsiderCA)
	if err != nil {
		t.Fatal(err)
	}
	for what, open := range map[string]func() (*Slice, error){
		"under a newer head":    func() (*Slice, error) { return OpenSlice(trust, newer, db, doc) },
		"for another endpoint":  func() (*Slice, error) { return OpenSlice(trust, head, other, doc) },
		"signed by an outsider": func() (*Slice, error) { return OpenSlice(trust, head, db, forged) },
		"in a mesh of others":   func() (*Slice, error) { return OpenSlice(outsiders, strange, db, doc) },
		"with one byte changed": func() (*Slice, error) {
			return OpenSlice(trust, head, db, bytes.Replace(doc, []byte("02:30:00Z"), []byte("02:30:01Z"), 1))
		},
		"with a space": func() (*Slice, error) {
			return OpenSlice(trust, head, db, bytes.Replace(doc, []byte(":"), []byte(": "), 1))
		},
		"cut":                func() (*Slice, error) { return OpenSlice(trust, head, db, doc[:len(doc)-1]) },
		"as large as a disk": func() (*Slice, error) { return OpenSlice(trust, head, db, make([]byte, MaxSlice+1)) },
	} {
		if _, err := open(); !errors.Is(err, identity.ErrUntrusted) && !errors.Is(err, ErrSource) {
			t.Errorf("a slice %s: %v", what, err)
		}
	}
	if _, err := OpenHead(outsiders, head.Document); !errors.Is(err, identity.ErrUntrusted) {
		t.Errorf("a head of another mesh: %v", err)
	}
	if _, err := OpenHead(trust, bytes.Replace(head.Document, []byte(`"version":1`), []byte(`"version":9`), 1)); !errors.Is(err, identity.ErrUntrusted) {
		t.Errorf("a head with another version: %v", err)
	}
	if !newer.Newer(head) || head.Newer(newer) || head.Newer(head) || !head.Newer(nil) {
		t.Error("a higher version does not count as newer")
	}
	twin := head.Head
	twin.Source = Sum([]byte("another"))
	same, err := twin.Sign(ca, trust)
	if err != nil || same.Newer(head) == head.Newer(same) {
		t.Errorf("of two heads of one version not the same one counts everywhere: %v", err)
	}
}

// A holder signs what it has cut: whatever went wrong there, an empty list does not come to mean all.
func TestASliceWithAGrantOfWhichAListIsEmptyIsRefused(t *testing.T) {
	s := example()
	ca, trust, head := signed(t, s)
	for list, empty := range map[string]func(*Given){
		"who": func(g *Given) { g.Who = nil }, "to": func(g *Given) { g.To = []string{} }, "from": func(g *Given) { g.From = nil },
	} {
		out := s.Slice(head, db, nil)
		empty(&out.Grants[0])
		doc, err := out.Sign(ca)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := OpenSlice(trust, head, db, doc); !errors.Is(err, ErrSource) {
			t.Errorf("%s is empty: %v", list, err)
		}
	}
}

// A stolen key of the CA before, which the mesh takes for a while after it was replaced, makes no slice
// of a head that the new CA has signed.
func TestASliceIsOfTheCAThatSignedItsHead(t *testing.T) {
	s := example()
	m := identitytest.New(t, time.Now())
	next, err := m.CA.Successor(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	trust, err := m.Trust.Rotate(m.CA, next, time.Now().Add(time.Hour), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	head, err := Head{Mesh: trust.Mesh(), Version: 1, Issued: unixtime.Of(time.Now()), Source: Sum(nil)}.Sign(next, trust)
	if err != nil {
		t.Fatal(err)
	}
	for ca, good := range map[*identity.CA]bool{next: true, m.CA: false} {
		doc, err := s.Slice(head, db, nil).Sign(ca)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := OpenSlice(trust, head, db, doc); (err == nil) != good {
			t.Errorf("signed by the CA of the head: %v: %v", good, err)
		}
	}
}

func FuzzSlice(f *testing.F) {
	m := identitytest.New(f, time.Unix(1_800_000_000, 0))
	f.Add([]byte(`{"head":"","endpoint":"","mode":"","labels":[],"asked":[],"groups":{},"places":{},"ends":"","grants":[]}`))
	head := &Signed{By: m.CA.ID()}
	f.Fuzz(func(t *testing.T, payload []byte) {
		// The key of the holder is used, so that what is behind the signature is read as well.
		doc, err := m.CA.Sign(sliceContext, json.RawMessage(payload))
		if err != nil {
			return
		}
		if s, err := OpenSlice(m.Trust, head, "", doc); err == nil && s.Head != "" {
			t.Errorf("%s was taken", payload)
		}
	})
}

func TestTheEndsOfAllUsersFitIntoASlice(t *testing.T) {
	s := example()
	until := unixtime.Of(time.Now())
	for i := len(s.Users); i < MaxUsers; i++ {
		s.Users[fmt.Sprintf("somebody-with-a-long-name-%05d@example.com", i)] = User{Until: until + unixtime.Seconds(i)}
	}
	ca, trust, head := signed(t, s)
	doc, err := s.Slice(head, other, nil).Sign(ca)
	if err != nil {
		t.Fatal(err)
	}
	got, err := OpenSlice(trust, head, other, doc)
	if err != nil {
		t.Fatal(err)
	}
	for name, u := range s.Users {
		if end := got.Ends.Of(name); end != u.Until {
			t.Fatalf("the access of %s ends at %d, want %d", name, end, u.Until)
		}
	}
	if end := got.Ends.Of("nobody"); end != 0 {
		t.Errorf("one without an end ends at %d", end)
	}
}

func TestEndsHaveOneForm(t *testing.T) {
	good := EndsOf(map[string]unixtime.Seconds{"ann": 1, "bob": unixtime.MaxSeconds})
	if !good.good() || !(Ends{}).good() || good.Of("bob") != unixtime.MaxSeconds || good.Of("ann") != 1 {
		t.Errorf("ends of two users: %v", good)
	}
	swapped := slices.Concat(good[endSize:], good[:endSize])
	for name, e := range map[string]Ends{"none": nil, "cut": good[1:], "not sorted": swapped, "twice": slices.Concat(good[:endSize], good[:endSize])} {
		if e.good() {
			t.Errorf("%s: taken", name)
		}
	}
}
