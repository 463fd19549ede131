package policy

import (
	"bytes"
	"reflect"
	"slices"
	"strings"

	"ztm/tunnel/identity"
	"ztm/tunnel/unixtime"
)

// Cutter cuts the slices of a source that does not change any more:
//
//	source -> once: endpoints by ID and by label, grants by where they are good -> a slice, in the time that its own size takes
//
// Its methods may be called from any goroutine.
type Cutter struct {
	Source *Source
	ends   Ends                   // shared by all slices
	names  map[identity.ID]string // of endpoints
	places map[string][]string    // names of the endpoints of a key, sorted; see keyOf
	at     map[string][]int       // which grants are good somewhere, by key, in order
}

// Shared is how many bytes all slices have in common: the ends of users.
func (c *Cutter) Shared() int { return len(c.ends) }

// keyOf is by what the endpoints of a term are looked up: a name, one of the labels that they must have,
// or [Anybody].
func keyOf(term string) string {
	key, _, _ := strings.Cut(term, "+")
	return key
}

// keys are what an endpoint is looked up by. One that is not pinned has no name.
func keys(name string, e Endpoint) []string {
	out := []string{Anybody}
	if name != "" {
		out = append(out, name)
	}
	for _, l := range e.Labels {
		out = append(out, LabelPrefix+l)
	}
	return out
}

// Cutter returns what cuts the slices of a source that was checked.
func (s *Source) Cutter() *Cutter {
	c := &Cutter{Source: s, names: make(map[identity.ID]string, len(s.Endpoints)), places: map[string][]string{}, at: map[string][]int{}}
	ends := map[string]unixtime.Seconds{}
	for user, u := range s.Users {
		if u.Until != 0 {
			ends[user] = u.Until
		}
	}
	c.ends = EndsOf(ends)
	for name, e := range s.Endpoints {
		c.names[e.ID] = name
		for _, key := range keys(name, e) {
			c.places[key] = append(c.places[key], name)
		}
	}
	for _, names := range c.places {
		slices.Sort(names)
	}
	for i, g := range s.Grants {
		for _, term := range g.At {
			if key := keyOf(term); !slices.Contains(c.at[key], i) {
				c.at[key] = append(c.at[key], i)
			}
		}
	}
	return c
}

// Slice is [Source.Slice].
func (c *Cutter) Slice(head *Signed, id identity.ID, asked []string) *Slice {
	s, name := c.Source, c.names[id]
	self := s.Endpoints[name]
	asked = slices.Compact(slices.Sorted(slices.Values(asked)))
	out := &Slice{
		Head: head.Sum, Endpoint: id, Mode: s.Mode, Labels: slices.Concat([]string{}, self.Labels), Asked: slices.Concat([]string{}, asked),
		Groups: map[string]Group{}, Places: map[string][]identity.ID{}, Ends: c.ends, Grants: []Given{},
	}
	for _, i := range c.grantsAt(name, self) {
		g := &s.Grants[i]
		out.Grants = append(out.Grants, Given{g.Name, g.Who, g.To, g.From, g.Until})
		for _, w := range g.Who {
			s.addGroup(out, w.Name, true)
		}
		for _, t := range g.From {
			c.addPlace(out, t)
		}
	}
	for _, t := range asked {
		s.addGroup(out, t, false)
		if strings.HasPrefix(t, LabelPrefix) {
			c.addPlace(out, t)
		}
	}
	return out
}

// grantsAt lists the grants that are good at an endpoint, in order.
func (c *Cutter) grantsAt(name string, e Endpoint) (out []int) {
	for _, key := range keys(name, e) {
		for _, i := range c.at[key] {
			if slices.ContainsFunc(c.Source.Grants[i].At, func(t string) bool { return means(t, name, e) }) {
				out = append(out, i)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// addPlace adds the endpoints of a term.
func (c *Cutter) addPlace(to *Slice, term string) {
	if _, there := to.Places[term]; there || term == Anybody || to.ids > maxIDs {
		return
	}
	ids := []identity.ID{}
	for _, name := range c.places[keyOf(term)] {
		if e := c.Source.Endpoints[name]; means(term, name, e) {
			ids = append(ids, e.ID)
		}
	}
	to.Places[term] = ids
	to.ids += len(ids)
}

// Differs returns a function that reports whether an endpoint, which asks for some terms, gets another
// slice than from an older source.
func (c *Cutter) Differs(old *Cutter) func(id identity.ID, asked []string) bool {
	head, all := new(Signed), !bytes.Equal(c.ends, old.ends)
	return func(id identity.ID, asked []string) bool {
		if all {
			return true
		}
		is, was := c.Slice(head, id, asked), old.Slice(head, id, asked)
		is.Ends, was.Ends = nil, nil
		return !reflect.DeepEqual(is, was)
	}
}
