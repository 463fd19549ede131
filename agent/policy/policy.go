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
	"slices"
	"strings"

	"ztm/apps"
	"ztm/apps/reach"
	"ztm/tunnel/identity"
	"ztm/tunnel/identity/policy"
)

// Rights is what an endpoint decides by. It does not change. Its methods may be called from any
// goroutine; nil is a mesh without a policy.
type Rights struct {
	mode   string
	stale  bool
	groups map[string]map[string]int64 // users of a group and when their membership ends, by "group:NAME"
	of     map[string][]membership     // the same by user
	places map[string]map[identity.ID]struct{}
	ends   map[string]int64               // of users
	exact  map[target]map[string][]*grant // grants by what they give, and whom
	vague  map[string][]*pattern          // grants that give more than one thing, by app
	all    map[string][]*grant            // grants by app
	times  []int64                        // all ends, sorted
}

type membership struct {
	group string // with its prefix
	until int64
}

// target is one thing that is given; without a name it is all of an app.
type target struct{ app, name string }

type grant struct {
	*policy.Given
	from []map[identity.ID]struct{} // nil: from everywhere
}

// pattern is a target of a grant that stands for more than one.
type pattern struct {
	*grant
	below string        // all that begins so
	dest  reach.Pattern // else: all that matches
}

// Compile makes the rights of a slice. voids says whether an eviction has ended what a user got at
// a time, in Unix seconds.
func Compile(s *policy.Slice, voids func(user string, added int64) bool) *Rights {
	r := &Rights{
		mode: s.Mode, groups: map[string]map[string]int64{}, of: map[string][]membership{}, places: map[string]map[identity.ID]struct{}{},
		ends: s.Ends, exact: map[target]map[string][]*grant{}, vague: map[string][]*pattern{}, all: map[string][]*grant{},
	}
	for name, g := range s.Groups {
		r.addGroup(policy.GroupPrefix+name, g, voids)
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
	for _, end := range s.Ends {
		r.times = append(r.times, end)
	}
	slices.Sort(r.times)
	r.times = slices.Compact(r.times)
	return r
}

func (r *Rights) addGroup(term string, g policy.Group, voids func(string, int64) bool) {
	set := make(map[string]int64, len(g.Members))
	for _, m := range g.Members {
		if voids(m.User, m.Added) {
			continue
		}
		set[m.User] = m.Until
		r.of[m.User] = append(r.of[m.User], membership{term, m.Until})
		r.addTime(m.Until)
	}
	r.groups[term] = set
}

func (r *Rights) addTime(end int64) {
	if end != 0 {
		r.times = append(r.times, end)
	}
}

func (r *Rights) addGrant(given *policy.Given, voids func(string, int64) bool) {
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
		r.all[app] = append(r.all[app], g)
		if p := patternOf(app, name); p != nil {
			p.grant = g
			r.vague[app] = append(r.vague[app], p)
			continue
		}
		terms := r.exact[target{app, name}]
		if terms == nil {
			terms = map[string][]*grant{}
			r.exact[target{app, name}] = terms
		}
		for _, w := range g.Who {
			terms[w.Name] = append(terms[w.Name], g)
		}
	}
}

// patternOf returns what a target stands for, nil if it is one thing: "tcp/*" is all below tcp, and
// where addresses are reached it is a pattern as the rules of the proxy have them.
func patternOf(app, name string) *pattern {
	if below, ok := strings.CutSuffix(name, "/*"); ok {
		return &pattern{below: below + "/"}
	}
	address, ok := strings.CutPrefix(name, forward)
	if app == proxy {
		address, ok = name, name != ""
	}
	if !ok {
		return nil
	}
	if p, err := reach.ParsePattern(address); err == nil {
		return &pattern{dest: p}
	}
	return nil
}

// The targets that are addresses: those of the proxy, and of the tunnel below forward.
const (
	proxy   = "proxy"
	forward = "forward/"
)

// matches reports whether a target is one of the pattern's.
func (p *pattern) matches(name string) bool {
	if p.below != "" {
		return strings.HasPrefix(name, p.below)
	}
	d, err := reach.ParseDest(strings.TrimPrefix(name, forward))
	return err == nil && p.dest.Match(d)
}

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

// Names reports whether a rule of this endpoint, whose users are who, means a peer; now is in Unix
// seconds. A rule of plain names means the same with and without a policy, but for users whose
// access has ended.
func (r *Rights) Names(p apps.Peer, who []string, now int64) bool {
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

// means is Names for a term that is no plain name.
func (r *Rights) means(term string, p apps.Peer, now int64) bool {
	switch {
	case strings.HasPrefix(term, policy.GroupPrefix):
		until, member := r.groups[term][p.User]
		return member && lasts(until, now)
	case strings.HasPrefix(term, policy.LabelPrefix):
		_, there := r.places[term][p.ID]
		return there
	}
	return term == apps.ByPolicy && r.mode == policy.Enforce
}

// Knows reports whether the policy has what a term of a rule names.
func (r *Rights) Knows(term string) bool {
	switch {
	case strings.HasPrefix(term, policy.GroupPrefix):
		return r != nil && r.groups[term] != nil
	case strings.HasPrefix(term, policy.LabelPrefix):
		return r != nil && len(r.places[term]) > 0
	}
	return true
}

// Next returns the next end of anything, after now; 0 if there is none.
func (r *Rights) Next(now int64) int64 {
	if r == nil {
		return 0
	}
	i, _ := slices.BinarySearch(r.times, now+1)
	if i == len(r.times) {
		return 0
	}
	return r.times[i]
}

// Ended reports whether the access of a user has ended as a whole.
func (r *Rights) Ended(user string, now int64) bool { return r != nil && r.ended(user, now) }

func (r *Rights) ended(user string, now int64) bool { return !lasts(r.ends[user], now) }

// lasts reports whether an end has not come yet; 0 is no end.
func lasts(until, now int64) bool { return until == 0 || now < until }
