package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"ztm/tunnel/identity"
)

// changes of the example, one for each kind of piece.
var changes = map[string]func(*Source){
	"direct":         func(s *Source) { s.Direct = DirectLAN },
	"mode":           func(s *Source) { s.Mode = Observe },
	"another user":   func(s *Source) { s.Users["dora"] = User{Until: 7} },
	"no user":        func(s *Source) { delete(s.Users, "carol") },
	"another end":    func(s *Source) { s.Users["carol"] = User{Until: 5001} },
	"another group":  func(s *Source) { s.Groups["staff"] = Group{Members: []Member{{User: "bob", Added: 1}}} },
	"no group":       func(s *Source) { delete(s.Groups, "glass") },
	"a group's word": func(s *Source) { g := s.Groups["ops"]; g.Notify = true; s.Groups["ops"] = g },
	"another member": func(s *Source) {
		g := s.Groups["ops"]
		g.Members = append(g.Members, Member{User: "eve", Added: 1})
		s.Groups["ops"] = g
	},
	"no member": func(s *Source) {
		g := s.Groups["ops"]
		g.Members = slices.DeleteFunc(g.Members, func(m Member) bool { return m.User == "gil" })
		s.Groups["ops"] = g
	},
	"another endpoint": func(s *Source) { s.Endpoints["box"] = Endpoint{ID: other} },
	"no endpoint":      func(s *Source) { delete(s.Endpoints, "db-1") },
	"another grant": func(s *Source) {
		g := example().Grants[0]
		g.Name = "db2"
		s.Grants = append(s.Grants, g)
	},
	"no grant": func(s *Source) {
		s.Grants = slices.DeleteFunc(s.Grants, func(g Grant) bool { return g.Name == "db" })
	},
	"a grant's end": func(s *Source) {
		for i := range s.Grants {
			if s.Grants[i].Name == "db" {
				s.Grants[i].Until = 9001
			}
		}
	},
	"nothing": func(*Source) {},
	"what a name needs": func(s *Source) {
		s.Users["a.b@c"] = User{}
		s.Groups["a.b@c"] = Group{Members: []Member{{User: "a.b@c", Added: 1}}}
	},
}

// text is a source without the order of its lists.
func text(t *testing.T, s *Source) string {
	t.Helper()
	all, err := s.pieces()
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for key, v := range all {
		lines = append(lines, key+" "+v)
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// clash reports whether two have changed one piece, and not to the same.
func clash(d, other Delta) bool {
	return slices.ContainsFunc(d, func(p Piece) bool {
		return slices.ContainsFunc(other, func(q Piece) bool { return p.Key == q.Key && p.Now != q.Now })
	})
}

func TestADeltaMakesOneSourceOfAnother(t *testing.T) {
	for name, change := range changes {
		for other, more := range changes {
			old, next := example(), example()
			change(next)
			d, err := DeltaOf(old, next)
			if err != nil {
				t.Fatal(err)
			}
			got := old.Clone()
			for range 2 { // the second time it is there already
				if err := d.On(got); err != nil || text(t, got) != text(t, next) {
					t.Fatalf("%s: %v\n%s\nwant\n%s", name, err, text(t, got), text(t, next))
				}
			}
			if got.Check() != nil && next.Check() == nil {
				t.Errorf("%s: %v", name, got.Check())
			}
			both, third := example(), example()
			more(third)
			theirs, err := DeltaOf(old, third)
			if err != nil {
				t.Fatal(err)
			}
			more(both)
			change(both)
			err = d.On(third)
			if clash(d, theirs) {
				if !errors.Is(err, ErrSource) {
					t.Errorf("%s after %s, which changes the same: %v", name, other, err)
				}
				continue
			}
			if err != nil || text(t, third) != text(t, both) {
				t.Errorf("%s after %s: %v\n%s\nwant\n%s", name, other, err, text(t, third), text(t, both))
			}
		}
	}
}

func TestADeltaChangesNothingThatAnotherHasChanged(t *testing.T) {
	old, mine, theirs := example(), example(), example()
	changes["another end"](mine)
	theirs.Users["carol"] = User{Until: 1}
	d, err := DeltaOf(old, mine)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.On(theirs); !errors.Is(err, ErrSource) || theirs.Users["carol"].Until != 1 {
		t.Errorf("the access ends at %d, %v", theirs.Users["carol"].Until, err)
	}
}

func TestWhoseSliceAChangeMakesAnotherIsKnown(t *testing.T) {
	same := 0
	for name, change := range changes {
		old, next := example(), example()
		change(next)
		was, is := old.Cutter(), next.Cutter()
		differ := is.Differs(was)
		for _, id := range []identity.ID{db, other} {
			for _, asked := range [][]string{nil, {"group:ops"}, {"group:staff"}, {"label:role=db"}} {
				want := !bytes.Equal(sliceOf(t, was, id, asked), sliceOf(t, is, id, asked))
				if got := differ(id, asked); got != want {
					t.Errorf("%s: endpoint %s that asks for %v: %t, want %t", name, id, asked, got, want)
				}
				if !want && name != "nothing" {
					same++
				}
			}
		}
	}
	if same == 0 {
		t.Error("each change is one for everybody: nothing was compared")
	}
}

// sliceOf is the slice of an endpoint, under no head.
func sliceOf(t *testing.T, c *Cutter, id identity.ID, asked []string) []byte {
	t.Helper()
	doc, err := json.Marshal(c.Slice(new(Signed), id, asked))
	if err != nil {
		t.Fatal(err)
	}
	return doc
}
