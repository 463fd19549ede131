// Package file is the policy of a mesh as a file that people write:
//
//	YAML or JSON -> parse -> nodes with lines -> Read, strictly -> File -> Source: as of now, or as of the one in force
//	                                                               File.Run: its tests
//	                                             two sources -> Diff: who gains and loses what
//
// What is not understood is refused with its line, and never left out: an unknown field, a name that
// is there twice, a list that is empty, an end without a zone. It touches no mesh.
package file

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	decide "ztm/agent/policy"
	"ztm/tunnel/identity"
	"ztm/tunnel/identity/policy"
	"ztm/tunnel/unixtime"
)

// MaxFile is the largest file, in bytes.
const MaxFile = policy.MaxSource

// Kind is the first field of a file: what it is, and in which version.
const Kind = "policy/1"

// File is what a file says.
type File struct {
	Base   uint64 // the version that it was made from; 0: not said
	Tests  []Test
	source *policy.Source // without the times at which members were added
}

// Test is one sentence that must hold.
type Test struct {
	Line int
	Can  bool
	User string
	To   string           // an app and what of it, as a grant has it
	At   string           // an endpoint, or [policy.Anybody]: each
	From string           // the endpoint that asks; "": one that the policy does not know
	When unixtime.Seconds // Unix seconds; 0: now
}

// Read reads a file.
func Read(b []byte) (*File, error) {
	n, err := parse(b)
	if err != nil {
		return nil, err
	}
	f := &File{source: &policy.Source{Users: map[string]policy.User{}, Groups: map[string]policy.Group{}, Endpoints: map[string]policy.Endpoint{}, Grants: []policy.Grant{}}}
	r := &reader{}
	s := f.source
	mode := ""
	r.fields(n, "the file", map[string]func(*node){
		"ztm": func(v *node) {
			if k := r.string(v); k != Kind {
				r.fail(v, "it is %q, and not %q", k, Kind)
			}
		},
		"base":   func(v *node) { f.Base = r.number(v) },
		"mode":   func(v *node) { mode = r.string(v) },
		"direct": func(v *node) { s.Direct = r.string(v) },
		"users":  func(v *node) { r.each(v, "users", func(name string, _ int, v *node) { s.Users[name] = r.user(v) }) },
		"groups": func(v *node) { r.each(v, "groups", func(name string, _ int, v *node) { s.Groups[name] = r.group(v) }) },
		"endpoints": func(v *node) {
			r.each(v, "endpoints", func(name string, _ int, v *node) { s.Endpoints[name] = r.endpoint(v) })
		},
		"grants": func(v *node) {
			for _, item := range r.list(v, "grants", true) {
				s.Grants = append(s.Grants, r.grant(item))
			}
		},
		"tests": func(v *node) {
			for _, item := range r.list(v, "tests", true) {
				f.Tests = append(f.Tests, r.test(item))
			}
		},
	}, "ztm")
	if r.err != nil {
		return nil, r.err
	}
	if s.Mode = mode; mode == "" && len(s.Grants) > 0 {
		s.Mode = policy.Enforce
	}
	if _, err := f.Source(nil, 1); err != nil { // what needs more than one line to be seen
		return nil, err
	}
	return f, f.checkTests()
}

func (r *reader) user(n *node) (u policy.User) {
	r.fields(n, "a user", map[string]func(*node){"until": func(v *node) { u.Until = r.time(v) }})
	return u
}

func (r *reader) group(n *node) (g policy.Group) {
	g.Members = []policy.Member{}
	r.fields(n, "a group", map[string]func(*node){
		"members": func(v *node) {
			for _, item := range r.list(v, "members", true) {
				g.Members = append(g.Members, r.member(item))
			}
		},
		"max":     func(v *node) { g.Max = r.span(v) },
		"notify":  func(v *node) { g.Notify = r.bool(v) },
		"visible": func(v *node) { g.Visible = r.string(v) },
	}, "members")
	return g
}

// member is a name, or a name with an end.
func (r *reader) member(n *node) (m policy.Member) {
	if n.kind != mapping {
		m.User = r.string(n)
		return m
	}
	r.fields(n, "a member", map[string]func(*node){
		"user":  func(v *node) { m.User = r.string(v) },
		"until": func(v *node) { m.Until = r.time(v) },
	}, "user")
	return m
}

func (r *reader) endpoint(n *node) (e policy.Endpoint) {
	r.fields(n, "an endpoint", map[string]func(*node){
		"id":     func(v *node) { e.ID = identity.ID(r.string(v)) },
		"labels": func(v *node) { e.Labels = r.strings(v, "labels", true) },
	}, "id")
	return e
}

func (r *reader) grant(n *node) (g policy.Grant) {
	g.From = []string{policy.Anybody}
	r.fields(n, "a grant", map[string]func(*node){
		"name": func(v *node) { g.Name = r.string(v) },
		"who": func(v *node) {
			for _, name := range r.strings(v, "who", false) {
				g.Who = append(g.Who, policy.Who{Name: name})
			}
		},
		"to": func(v *node) {
			g.To = r.strings(v, "to", false)
			for i, to := range g.To {
				if err := decide.CheckTarget(to); err != nil {
					r.fail(v.items[i], "to: %v", err)
				}
			}
		},
		"at":    func(v *node) { g.At = r.strings(v, "at", false) },
		"from":  func(v *node) { g.From = r.strings(v, "from", false) },
		"until": func(v *node) { g.Until = r.time(v) },
	}, "name", "who", "to", "at")
	return g
}

func (r *reader) test(n *node) Test {
	t := Test{Line: n.line}
	verbs := 0
	verb := func(can bool) func(*node) {
		return func(v *node) { t.User, t.Can, verbs = r.string(v), can, verbs+1 }
	}
	r.fields(n, "a test", map[string]func(*node){
		"can": verb(true), "cannot": verb(false),
		"to":   func(v *node) { t.To = r.string(v) },
		"at":   func(v *node) { t.At = r.string(v) },
		"from": func(v *node) { t.From = r.string(v) },
		"when": func(v *node) { t.When = r.time(v) },
	}, "to", "at")
	if verbs != 1 {
		r.fail(n, "a test has either can or cannot")
	}
	return t
}

// checkTests refuses tests of what the file does not have: they would hold for no reason.
func (f *File) checkTests() error {
	for _, t := range f.Tests {
		_, user := f.source.Users[t.User]
		if !user && !f.member(t.User) {
			return wrongf(t.Line, "the test is of user %q, whom the file does not name", t.User)
		}
		for _, ep := range []string{t.At, t.From} {
			if _, known := f.source.Endpoints[ep]; !known && ep != "" && (ep != policy.Anybody || ep == t.From) {
				return wrongf(t.Line, "the test is of endpoint %q, which the file does not name", ep)
			}
		}
		if app, _, _ := strings.Cut(t.To, "/"); identity.CheckName(app) != nil {
			return wrongf(t.Line, "the test is of %q, which does not begin with an app", t.To)
		}
	}
	return nil
}

func (f *File) member(user string) bool {
	for _, g := range f.source.Groups {
		if slices.ContainsFunc(g.Members, func(m policy.Member) bool { return m.User == user }) {
			return true
		}
	}
	return false
}

// ErrBase is returned for a file that was made from another version than the one in force.
var ErrBase = errors.New("the policy has changed since the file was made")

// CheckBase returns [ErrBase] if the file says that it was made from another version.
func (f *File) CheckBase(version uint64) error {
	if f.Base != 0 && f.Base != version {
		return fmt.Errorf("%w: from version %d, and %d is in force", ErrBase, f.Base, version)
	}
	return nil
}

// Source returns the policy that the file says, at a time in Unix seconds. Who was in a group or a
// grant before, in old, was added when they were then. The access of a user whom the file does not name
// ends when it does in old: to be left out never comes to mean for good. Where old is nil, nothing is said of names that
// the file adds to it, see [policy.Source.CheckAdded].
func (f *File) Source(old *policy.Source, now unixtime.Seconds) (*policy.Source, error) {
	known := old != nil
	if !known {
		old = &policy.Source{}
	}
	s := &policy.Source{Mode: f.source.Mode, Direct: f.source.Direct, Users: maps.Clone(f.source.Users), Groups: map[string]policy.Group{}, Endpoints: f.source.Endpoints, Grants: []policy.Grant{}}
	for name, u := range old.Users {
		if _, named := s.Users[name]; !named && u.Until != 0 {
			s.Users[name] = u
		}
	}
	for name, g := range f.source.Groups {
		g.Members = slices.Clone(g.Members)
		for i, m := range g.Members {
			g.Members[i].Added = addedTo(old.Groups[name], m.User, now)
		}
		s.Groups[name] = g
	}
	for _, g := range f.source.Grants {
		before := slices.IndexFunc(old.Grants, func(o policy.Grant) bool { return o.Name == g.Name })
		g.Who = slices.Clone(g.Who)
		for i, w := range g.Who {
			if w.Name == policy.Anybody || strings.HasPrefix(w.Name, policy.GroupPrefix) {
				continue
			}
			g.Who[i].Added = now
			if before >= 0 {
				if j := slices.IndexFunc(old.Grants[before].Who, func(o policy.Who) bool { return o.Name == w.Name }); j >= 0 {
					g.Who[i].Added = old.Grants[before].Who[j].Added
				}
			}
		}
		s.Grants = append(s.Grants, g)
	}
	err := s.Check()
	if err == nil && known {
		err = s.CheckAdded(old)
	}
	return s, err
}

// addedTo is when a user was added to a group: now, if they were not there.
func addedTo(g policy.Group, user string, now unixtime.Seconds) unixtime.Seconds {
	for _, m := range g.Members {
		if m.User == user {
			return m.Added
		}
	}
	return now
}
