package policy

import (
	"cmp"
	"slices"

	"ztm/apps"
	"ztm/tunnel/identity/policy"
	"ztm/tunnel/unixtime"
)

// index has the grants for one target by whom they mean. A user may be in many groups, and many
// groups may have a grant: both are sorted by number, and one pass over the two finds what they have
// in common.
type index struct {
	users  map[string][]*grant // by user, and by [policy.Anybody]
	groups []granted           // sorted by group
}

// granted is a grant for a group. What most of them are decided by stands in the list itself.
type granted struct {
	group      int32
	everywhere bool             // it does not matter which endpoint asks
	until      unixtime.Seconds // of the grant
	*grant
}

// membership is one of a user.
type membership struct {
	group int32
	until unixtime.Seconds
}

func byGroup(m membership, group int32) int { return cmp.Compare(m.group, group) }

// add adds a grant for all whom it means. groups has their numbers.
func (ix *index) add(g *grant, groups map[string]int32) {
	for _, w := range g.Who {
		if n, isGroup := groups[w.Name]; isGroup {
			ix.groups = append(ix.groups, granted{n, g.from == nil, g.Until, g})
		} else {
			ix.users[w.Name] = append(ix.users[w.Name], g)
		}
	}
}

// settle sorts what was added, and leaves out each grant beside which another gives the same for as
// long.
func (ix *index) settle() {
	for term, list := range ix.users {
		ix.users[term] = slices.Clip(lasting(list, func(g *grant) *grant { return g }))
	}
	slices.SortStableFunc(ix.groups, func(a, b granted) int { return cmp.Compare(a.group, b.group) })
	out := ix.groups[:0]
	for len(ix.groups) > 0 {
		n := 1
		for n < len(ix.groups) && ix.groups[n].group == ix.groups[0].group {
			n++
		}
		kept := lasting(ix.groups[:n], func(g granted) *grant { return g.grant })
		ix.groups = ix.groups[n:]
		out = append(out, kept...)
	}
	ix.groups = slices.Clip(out)
}

// lasting returns, in place, those of some grants for the same users and target that can matter: of
// those from everywhere the one that lasts longest.
func lasting[T any](all []T, of func(T) *grant) []T {
	best := -1
	for i, t := range all {
		if g := of(t); g.from == nil && (best < 0 || outlasts(g.Until, of(all[best]).Until)) {
			best = i
		}
	}
	out := all[:0]
	for i, t := range all {
		if i == best || of(t).from != nil {
			out = append(out, t)
		}
	}
	return out
}

// search adds to a decision what the grants give a peer.
func (ix *index) search(d *Decision, p apps.Peer, of []membership, end, now unixtime.Seconds) {
	if ix == nil {
		return
	}
	for _, g := range ix.users[p.User] {
		d.add(g, p, end, now)
	}
	for _, g := range ix.users[policy.Anybody] {
		d.add(g, p, end, now)
	}
	ix.searchGroups(d, p, of, end, now)
}

// searchGroups is search for the groups of the peer's user. Of the grants that do not look at the
// endpoint only the one that lasts longest is looked at more closely.
func (ix *index) searchGroups(d *Decision, p apps.Peer, of []membership, end, now unixtime.Seconds) {
	var best *grant
	last, groups := unixtime.Seconds(0), ix.groups
	for _, m := range of {
		if len(groups) > 0 && groups[0].group < m.group { // most often it is the next one
			i, _ := slices.BinarySearchFunc(groups, m.group, func(g granted, n int32) int { return cmp.Compare(g.group, n) })
			groups = groups[i:]
		}
		for len(groups) > 0 && groups[0].group == m.group {
			g := &groups[0]
			until := earlier(m.until, earlier(g.until, end))
			if !g.everywhere {
				d.add(g.grant, p, until, now)
			} else if best == nil || outlasts(until, last) {
				best, last = g.grant, until
			}
			groups = groups[1:]
		}
	}
	if best != nil {
		d.add(best, p, last, now)
	}
}
