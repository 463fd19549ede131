package entry

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"ztm/tunnel/identity"
	"ztm/tunnel/identity/policy"
)

// Readers says who may read a file beside the user that it belongs to. A later version may know
// more kinds of them, which readers of today refuse. The zero value is nobody.
type Readers struct {
	All    bool     `json:"all,omitempty"`    // each member of the mesh
	Users  []string `json:"users,omitempty"`  // sorted, each once
	Groups []string `json:"groups,omitempty"` // of the mesh's policy, without a prefix; sorted, each once
}

// How many a file can be shared with by name.
const (
	maxReaders = 256
	maxGroups  = 16
)

// Reader is somebody who wants to read. The zero value may read what each member may.
type Reader struct {
	User string

	// In reports whether they are in a group now; nil: in none. It may be called with locks held.
	In func(group string) bool
}

// May reports whether somebody is among the readers.
func (r Readers) May(who Reader) bool {
	if _, found := slices.BinarySearch(r.Users, who.User); r.All || found {
		return true
	}
	return who.In != nil && slices.ContainsFunc(r.Groups, who.In)
}

// IsNobody reports whether there is no reader.
func (r Readers) IsNobody() bool { return !r.All && len(r.Users)+len(r.Groups) == 0 }

// Equal reports whether both name the same.
func (r Readers) Equal(o Readers) bool {
	return r.All == o.All && slices.Equal(r.Users, o.Users) && slices.Equal(r.Groups, o.Groups)
}

// With returns the readers with some more, and then without some: users, and groups as "group:NAME".
func (r Readers) With(add, remove []string) Readers {
	users, groups := split(add)
	r.Users, r.Groups = union(r.Users, users), union(r.Groups, groups)
	users, groups = split(remove)
	r.Users, r.Groups = without(r.Users, users), without(r.Groups, groups)
	return r
}

// SharedWith returns the readers with some more, as [Readers.With] does; "*" is all.
func (r Readers) SharedWith(more []string) Readers {
	r.All = r.All || slices.Contains(more, "*")
	return r.With(without(more, []string{"*"}), nil)
}

// split takes terms of a rule apart.
func split(terms []string) (users, groups []string) {
	for _, t := range terms {
		if g, ok := strings.CutPrefix(t, policy.GroupPrefix); ok {
			groups = append(groups, g)
		} else {
			users = append(users, t)
		}
	}
	return users, groups
}

func union(a, b []string) []string {
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.Compact(all)
}

func without(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(s string) bool { return slices.Contains(b, s) })
}

// Lost is what a file's readers lose when it gets new ones.
func Lost(before, after Readers) Readers {
	switch {
	case before.All && !after.All:
		return Readers{All: true}
	case after.All:
		return Readers{}
	}
	return Readers{Users: without(before.Users, after.Users), Groups: without(before.Groups, after.Groups)}
}

// AddLost returns who has lost access up to a version of a file: r, which are in the order in which
// they lost it, and more. Whoever can read it now is not among them. Where they are too many, those
// that lost it first are left out: they have heard of it.
func (r Readers) AddLost(more, now Readers) Readers {
	if now.All {
		return Readers{}
	}
	return Readers{
		All:    r.All || more.All,
		Users:  last(r.Users, more.Users, now.Users, maxReaders),
		Groups: last(r.Groups, more.Groups, now.Groups, maxGroups),
	}
}

func last(names, more, now []string, most int) []string {
	all := without(append(without(names, more), more...), now)
	return all[max(0, len(all)-most):]
}

// Sorted returns the readers in the order that an entry has.
func (r Readers) Sorted() Readers {
	return Readers{All: r.All, Users: union(r.Users, nil), Groups: union(r.Groups, nil)}
}

// Check returns why no entry can have the readers.
func (r Readers) Check() error {
	if len(r.Users) > maxReaders || len(r.Groups) > maxGroups {
		return fmt.Errorf("%d users and %d groups as readers, the limits are %d and %d", len(r.Users), len(r.Groups), maxReaders, maxGroups)
	}
	for _, list := range [][]string{r.Users, r.Groups} {
		for i, name := range list {
			if err := identity.CheckName(name); err != nil {
				return err
			}
			if i > 0 && list[i-1] >= name {
				return errors.New("the readers are not in order")
			}
		}
	}
	return nil
}

// Terms lists users and groups as rules name them.
func (r Readers) Terms() []string {
	terms := slices.Clone(r.Users)
	for _, g := range r.Groups {
		terms = append(terms, policy.GroupPrefix+g)
	}
	return terms
}

// Text writes readers for people: "" is nobody, and nil.
func (r *Readers) Text() string {
	switch {
	case r == nil:
		return ""
	case r.All:
		return "all"
	}
	return strings.Join(r.Terms(), ",")
}
