// Package policy decides what a peer may reach at this endpoint, by the policy of the mesh:
//
//	slice (signed) -> Compile, once for each version -> Rights -> Names   does a rule of the owner mean this peer?
//	                                                           -> Decide  does a grant give this peer this target?
//
// A peer of another user gets what both allow: a grant, where the policy enforces grants, and the
// rule of the endpoint's owner. There are grants alone, no denials, and no order: what one grant
// gives no other takes away. Nothing is remembered of a decision. The package reads no clock, no
// file and no network.
package policy

import (
	"maps"
	"slices"
	"strings"

	"ztm/apps"
	"ztm/apps/reach"
	"ztm/tunnel/identity"
	"ztm/tunnel/identity/policy"
	"ztm/tunnel/unixtime"
)

// Rights is what an endpoint decides by. It does not change. Its methods may be called from any
// goroutine; nil is a mesh without a policy.
type Rights struct {
	mode   string
	stale  bool
	groups map[string]int32        // numbers of the groups, by "group:NAME"
	of     map[string][]membership // the groups of a user, sorted
	places map[string]map[identity.ID]struct{}
	ends   policy.Ends           // of users
	exact  map[target]*index     // grants by what they give
	below  map[target]*index     // grants of all below a name: "udp" of "udp/*"
	deep   int                   // bytes of the longest name in below
	ranges map[string][]*pattern // grants of ranges of addresses, by app
	all    map[string]*index     // grants by app
	times  []unixtime.Seconds    // all ends, sorted
}

// target is what is given; without a name it is all of an app.
type target struct{ app, name string }

type grant struct {
	*policy.Given
	from []map[identity.ID]struct{} // nil: from everywhere
}

// pattern is a range of addresses that is given.
type pattern struct {
	*index
	name string
	dest reach.Pattern
}

// Compile makes the rights of a slice. voids says whether an eviction has ended what a user got at
// a time, in Unix seconds.
func Compile(s *policy.Slice, voids func(user string, added unixtime.Seconds) bool) *Rights {
	r := &Rights{
		mode: s.Mode, groups: make(map[string]int32, len(s.Groups)), of: map[string][]membership{}, places: map[string]map[identity.ID]struct{}{},
		ends: s.Ends, exact: map[target]*index{}, below: map[target]*index{}, ranges: map[string][]*pattern{}, all: map[string]*index{},
	}
	for i, name := range slices.Sorted(maps.Keys(s.Groups)) {
		r.addGroup(policy.GroupPrefix+name, int32(i), s.Groups[name], voids)
	}
	for term, ids := range s.Places {
		set := make(map[identity.ID]struct{}, len(ids))
		for _, id := range ids {
			set[id] = struct{}{}
		}
		r.places[term] = set
	}
	for i := range s.Grants {
		r.addGrant(&s.Grants[i], voids)
	}
	r.settle()
	r.times = slices.AppendSeq(r.times, s.Ends.All())
	slices.Sort(r.times)
	r.times = slices.Compact(r.times)
	return r
}

func (r *Rights) addGroup(term string, number int32, g policy.Group, voids func(string, unixtime.Seconds) bool) {
	r.groups[term] = number
	for _, m := range g.Members {
		if !voids(m.User, m.Added) {
			r.of[m.User] = append(r.of[m.User], membership{number, m.Until})
			r.addTime(m.Until)
		}
	}
}

func (r *Rights) addTime(end unixtime.Seconds) {
	if end != 0 {
		r.times = append(r.times, end)
	}
}

func (r *Rights) addGrant(given *policy.Given, voids func(string, unixtime.Seconds) bool) {
	one := *given
	one.Who = slices.DeleteFunc(slices.Clone(given.Who), func(w policy.Who) bool { return w.Added != 0 && voids(w.Name, w.Added) })
	g := &grant{Given: &one}
	if !slices.Contains(g.From, policy.Anybody) {
		g.from = []map[identity.ID]struct{}{}
		for _, t := range g.From {
			g.from = append(g.from, r.places[t])
		}
	}
	r.addTime(g.Until)
	for _, to := range g.To {
		app, name, _ := strings.Cut(to, "/")
		indexOf(r.all, app).add(g, r.groups)
		r.indexFor(app, name).add(g, r.groups)
	}
}

// indexFor returns the index of what a grant gives: one thing, all of an app or below a name, or a
// range of addresses.
func (r *Rights) indexFor(app, name string) *index {
	if dest, isRange := rangeOf(app, name); isRange {
		return r.indexOfRange(app, name, dest)
	}
	if name == "*" {
		return indexOf(r.exact, target{app, ""})
	}
	if above, all := strings.CutSuffix(name, "/*"); all {
		r.deep = max(r.deep, len(above))
		return indexOf(r.below, target{app, above})
	}
	return indexOf(r.exact, target{app, name})
}

func (r *Rights) indexOfRange(app, name string, dest reach.Pattern) *index {
	for _, p := range r.ranges[app] {
		if p.name == name {
			return p.index
		}
	}
	p := &pattern{newIndex(), name, dest}
	r.ranges[app] = append(r.ranges[app], p)
	return p.index
}

func newIndex() *index { return &index{users: map[string][]*grant{}} }

// indexOf returns the index of a key, and makes it if there is none.
func indexOf[K comparable](all map[K]*index, key K) *index {
	if all[key] == nil {
		all[key] = newIndex()
	}
	return all[key]
}

// settle makes all indexes ready.
func (r *Rights) settle() {
	for _, ix := range r.exact {
		ix.settle()
	}
	for _, ix := range r.below {
		ix.settle()
	}
	for _, ix := range r.all {
		ix.settle()
	}
	for _, list := range r.ranges {
		for _, p := range list {
			p.settle()
		}
	}
}

// rangeOf returns the range of addresses that a target stands for, if it is one: where addresses are
// reached it is written as in the rules of the proxy.
func rangeOf(app, name string) (dest reach.Pattern, isRange bool) {
	address, isRange := addressOf(app, name)
	if !isRange {
		return dest, false
	}
	dest, err := reach.ParsePattern(address)
	return dest, err == nil
}

// The targets that are addresses: those of the proxy, and of the tunnel below forward.
const (
	proxy   = "proxy"
	forward = "forward/"
)

// Stale returns the rights of an endpoint that knows that a newer policy is in force and has not got
// it: what this one gives may have been taken away.
func (r *Rights) Stale() *Rights {
	if r == nil || r.stale {
		return r
	}
	old := *r
	old.stale = true
	return &old
}

// IsStale reports whether r was made by Stale.
func (r *Rights) IsStale() bool { return r != nil && r.stale }

// Enforces reports whether who has no grant is refused.
func (r *Rights) Enforces() bool { return r != nil && r.mode == policy.Enforce }

// Names reports whether a rule of this endpoint, whose users are who, means a peer; now is in Unix
// seconds. A rule of plain names means the same with and without a policy, but for users whose
// access has ended.
func (r *Rights) Names(p apps.Peer, who []string, now unixtime.Seconds) bool {
	if p.User == "" || r != nil && r.ended(p.User, now) {
		return false
	}
	for _, term := range who {
		if term == p.User || term == policy.Anybody || r != nil && !r.stale && r.means(term, p, now) {
			return true
		}
	}
	return false
}

// Until is when a rule that means a peer now will mean it no more by what is in force, in Unix seconds;
// 0: that is not known to come.
func (r *Rights) Until(p apps.Peer, who []string, now unixtime.Seconds) unixtime.Seconds {
	last, found := unixtime.Seconds(0), false
	for _, term := range who {
		if !r.Names(p, []string{term}, now) {
			continue
		}
		until := unixtime.Seconds(0)
		if strings.HasPrefix(term, policy.GroupPrefix) {
			until, _ = r.member(p.User, term)
		}
		if !found || outlasts(until, last) {
			last, found = until, true
		}
	}
	return earlier(last, r.End(p.User))
}

// means is Names for a term that is no plain name.
func (r *Rights) means(term string, p apps.Peer, now unixtime.Seconds) bool {
	switch {
	case strings.HasPrefix(term, policy.GroupPrefix):
		until, member := r.member(p.User, term)
		return member && lasts(until, now)
	case strings.HasPrefix(term, policy.LabelPrefix):
		_, there := r.places[term][p.ID]
		return there
	}
	return term == apps.ByPolicy && r.mode == policy.Enforce
}

// member returns until when a user is in a group, by its term.
func (r *Rights) member(user, term string) (until unixtime.Seconds, member bool) {
	group, known := r.groups[term]
	if !known {
		return 0, false
	}
	i, member := slices.BinarySearchFunc(r.of[user], group, byGroup)
	if !member {
		return 0, false
	}
	return r.of[user][i].until, true
}

// Knows reports whether the policy has what a term of a rule names.
func (r *Rights) Knows(term string) bool {
	switch {
	case strings.HasPrefix(term, policy.GroupPrefix):
		if r == nil {
			return false
		}
		_, known := r.groups[term]
		return known
	case strings.HasPrefix(term, policy.LabelPrefix):
		return r != nil && len(r.places[term]) > 0
	}
	return true
}

// Next returns the next end of anything, after now; 0 if there is none.
func (r *Rights) Next(now unixtime.Seconds) unixtime.Seconds {
	if r == nil {
		return 0
	}
	i, _ := slices.BinarySearch(r.times, now+1)
	if i == len(r.times) {
		return 0
	}
	return r.times[i]
}

// End is when the access of a user ends as a whole, in Unix seconds; 0: it does not.
func (r *Rights) End(user string) unixtime.Seconds {
	if r == nil {
		return 0
	}
	return r.ends.Of(user)
}

func (r *Rights) ended(user string, now unixtime.Seconds) bool { return !lasts(r.End(user), now) }

// outlasts reports whether one end is later than another; none is the latest.
func outlasts(until, other unixtime.Seconds) bool { return other != 0 && (until == 0 || until > other) }

// lasts reports whether an end has not come yet; 0 is no end.
func lasts(until, now unixtime.Seconds) bool { return until == 0 || now < until }
