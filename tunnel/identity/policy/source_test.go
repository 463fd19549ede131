package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"testing"

	"ztm/tunnel/identity"
)

func example() *Source {
	return &Source{
		Mode:  Enforce,
		Users: map[string]User{"bob": {}, "carol": {Until: 5000}},
		Groups: map[string]Group{
			"ops":   {Members: []Member{{User: "bob", Added: 1000}, {User: "gil", Added: 1000, Until: 2000}}},
			"glass": {Members: []Member{}, Max: 3_600_000, Notify: true},
		},
		Endpoints: map[string]Endpoint{
			"db-1": {ID: identity.ID("abcdefghijklmnopqrstuvwxyz234567"), Labels: []string{"role=db"}},
		},
		Grants: []Grant{
			{Name: "db", Who: []Who{{Name: "group:ops"}, {Name: "carol", Added: 1000}}, To: []string{"tunnel/tcp/db"},
				At: []string{"db-1", "label:role=db+site=12"}, From: []string{Anybody}, Until: 9000},
		},
	}
}

func TestASourceHasOneForm(t *testing.T) {
	doc, err := example().Marshal()
	if err != nil {
		t.Fatal(err)
	}
	s, err := Parse(doc)
	if err != nil {
		t.Fatal(err)
	}
	again, err := s.Marshal()
	if err != nil || !bytes.Equal(again, doc) {
		t.Errorf("%s\nbecame\n%s (%v)", doc, again, err)
	}
	other := bytes.Replace(doc, []byte(`"users":`), []byte(` "users":`), 1)
	if _, err := Parse(other); !errors.Is(err, ErrSource) {
		t.Errorf("another form of it: %v", err)
	}
	if _, err := Parse(append(doc, '1')); !errors.Is(err, ErrSource) {
		t.Errorf("with something after it: %v", err)
	}
}

// Where an empty list is dropped, or a missing one is taken for all, a grant opens everything.
func TestAListOfAGrantThatIsEmptyNullOrMissingIsRefused(t *testing.T) {
	doc, err := example().Marshal()
	if err != nil {
		t.Fatal(err)
	}
	for _, list := range []string{"who", "to", "at", "from"} {
		for how, change := range map[string]func(map[string]any){
			"empty":   func(g map[string]any) { g[list] = []any{} },
			"null":    func(g map[string]any) { g[list] = nil },
			"missing": func(g map[string]any) { delete(g, list) },
		} {
			var tree map[string]any
			if err := json.Unmarshal(doc, &tree); err != nil {
				t.Fatal(err)
			}
			change(tree["grants"].([]any)[0].(map[string]any))
			b, err := json.Marshal(tree)
			if err != nil {
				t.Fatal(err)
			}
			// Through the type it has the canonical order: what is left to refuse is the list.
			s := new(Source)
			if err := json.Unmarshal(b, s); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Marshal(); !errors.Is(err, ErrSource) {
				t.Errorf("%s of a grant is %s: %v", list, how, err)
			}
		}
	}
}

func TestANameThatDiffersFromAnotherInCaseAloneIsNotAdded(t *testing.T) {
	users := func(names ...string) *Source {
		s := example()
		s.Users["bob"], s.Users["carol"] = User{}, User{}
		for _, name := range names {
			s.Users[name] = User{}
		}
		return s
	}
	member := func(name string) *Source {
		s := users()
		s.Groups["sales"] = Group{Members: []Member{{User: name, Added: 1}}}
		return s
	}
	group := example()
	group.Groups["Ops"] = Group{Members: []Member{}}
	for _, test := range []struct {
		old, s  *Source
		refused bool
	}{
		{users(), users(), false},
		{users(), users("dave"), false},
		{users(), users("BOB"), true},
		{&Source{}, users("BOB"), true},
		{users("BOB"), users("BOB"), false},
		{users("BOB"), users("BOB", "Bob"), true},
		{users("Bob"), users("BOB", "Bob"), true},
		{users("BOB"), users("BOB", "CAROL"), true},
		{users(), member("bob"), false},
		{users(), member("BOB"), true},
		{member("BOB"), member("BOB"), false},
		{example(), group, true},
		{group, group, false},
	} {
		if err := test.s.CheckAdded(test.old); (err != nil) != test.refused || err != nil && !errors.Is(err, ErrSource) {
			t.Errorf("from %v and %v to %v and %v: %v", test.old.Users, test.old.Groups, test.s.Users, test.s.Groups, err)
		}
		doc, err := test.s.Marshal()
		if err == nil {
			_, err = Parse(doc)
		}
		if err != nil {
			t.Errorf("one that is in force cannot be read: %v", err)
		}
	}
}

func TestWhatAPolicyDoesNotKnowIsRefused(t *testing.T) {
	for what, change := range map[string]func(*Source){
		"a user":                      func(s *Source) { s.Grants[0].Who = []Who{{Name: "bobb", Added: 1}} },
		"a group":                     func(s *Source) { s.Grants[0].Who = []Who{{Name: "group:opps"}} },
		"an endpoint":                 func(s *Source) { s.Grants[0].At = []string{"db-2"} },
		"an endpoint that asks":       func(s *Source) { s.Grants[0].From = []string{"db-2"} },
		"a label of no form":          func(s *Source) { s.Grants[0].At = []string{"label:"} },
		"one label of two":            func(s *Source) { s.Grants[0].At = []string{"label:a+"} },
		"a target without an app":     func(s *Source) { s.Grants[0].To = []string{"/tcp/db"} },
		"a control character":         func(s *Source) { s.Grants[0].To = []string{"tunnel/\x1b[2J"} },
		"a user's end before 1970":    func(s *Source) { s.Users["bob"] = User{Until: -1} },
		"a grant's end before 1970":   func(s *Source) { s.Grants[0].Until = -1 },
		"a user added at no time":     func(s *Source) { s.Grants[0].Who[1].Added = 0 },
		"a member added at no time":   func(s *Source) { s.Groups["ops"].Members[0].Added = 0 },
		"a group added at a time":     func(s *Source) { s.Grants[0].Who[0].Added = 1 },
		"a group as a member":         func(s *Source) { s.Groups["ops"].Members[0].User = "group:glass" },
		"a member twice":              func(s *Source) { s.Groups["ops"].Members[1].User = "bob" },
		"a grant twice":               func(s *Source) { s.Grants = append(s.Grants, s.Grants[0]) },
		"a grant without a name":      func(s *Source) { s.Grants[0].Name = "" },
		"a group without a list":      func(s *Source) { s.Groups["glass"] = Group{} },
		"a group seen by an outsider": func(s *Source) { s.Groups["glass"] = Group{Members: []Member{}, Visible: "all"} },
		"a member for too long": func(s *Source) {
			s.Groups["glass"] = Group{Members: []Member{{User: "bob", Added: 1, Until: 3602}}, Max: 3_600_000}
		},
		"a member without the end that is asked for": func(s *Source) {
			s.Groups["glass"] = Group{Members: []Member{{User: "bob", Added: 1}}, Max: 3_600_000}
		},
		"an ID of no form": func(s *Source) { s.Endpoints["db-1"] = Endpoint{ID: "x"} },
		"an ID twice":      func(s *Source) { s.Endpoints["db-2"] = s.Endpoints["db-1"] },
		"no list of users": func(s *Source) { s.Users = nil },
	} {
		s := example()
		change(s)
		if err := s.Check(); !errors.Is(err, ErrSource) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestTheFirstErrorOfASourceIsAlwaysTheSame(t *testing.T) {
	for what, change := range map[string]func(*Source){
		"of three users": func(s *Source) { s.Users["_a"], s.Users["_b"], s.Users["_c"] = User{}, User{}, User{} },
		"of four lists":  func(s *Source) { s.Grants[0] = Grant{Name: "db"} },
	} {
		texts := map[string]struct{}{}
		for range 50 {
			s := example()
			change(s)
			texts[s.Check().Error()] = struct{}{}
		}
		if len(texts) != 1 {
			t.Errorf("%s: %q", what, slices.Sorted(maps.Keys(texts)))
		}
	}
}

func FuzzSource(f *testing.F) {
	doc, err := example().Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(doc)
	f.Add([]byte(`{"users":{},"groups":{},"endpoints":{},"grants":[]}`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		s, err := Parse(doc)
		if err != nil {
			return
		}
		again, err := s.Marshal()
		if err != nil || !bytes.Equal(again, doc) {
			t.Errorf("%q became %q (%v)", doc, again, err)
		}
	})
}
