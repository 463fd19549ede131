package policy

import (
	"maps"
	"slices"

	"ztm/apps"
	"ztm/tunnel/identity/policy"
)

// Decision is what the policy says of one target. It says nothing of the rules of the endpoint.
type Decision struct {
	Allow  bool
	Grant  string // the grant that allows it, or that did until it ended; "": no grant has to do with it
	Until  int64  // when that ends or has ended, Unix seconds; 0: not
	Reason Reason
}

// Reason is why a decision is as it is.
type Reason string

// The reasons.
const (
	NoPolicy    Reason = "no-policy"    // allowed: grants are not enforced in this mesh
	Granted     Reason = "granted"      // allowed
	WouldRefuse Reason = "would-refuse" // allowed, but not once grants are enforced
	NoGrant     Reason = "no-grant"
	Ended       Reason = "ended"
	WrongDevice Reason = "wrong-device" // the grant is for other endpoints of the user
	StalePolicy Reason = "stale-policy"
)

// Decide decides whether a grant gives a peer what an app calls name, or anything of the app if name
// is "". now is in Unix seconds.
func (r *Rights) Decide(p apps.Peer, app, name string, now int64) Decision {
	switch {
	case r != nil && r.ended(p.User, now): // in each mode
		return Decision{Until: r.ends[p.User], Reason: Ended}
	case r == nil || r.mode == policy.GroupsOnly:
		return Decision{Allow: true, Reason: NoPolicy}
	case r.stale && r.mode == policy.Enforce:
		return Decision{Reason: StalePolicy}
	}
	d := Decision{Reason: NoGrant}
	if p.User != "" {
		r.search(&d, p, app, name, now)
	}
	if !d.Allow && r.mode == policy.Observe {
		return Decision{Allow: true, Reason: WouldRefuse}
	}
	return d
}

// search tries all grants of the target, by what they give and whom.
func (r *Rights) search(d *Decision, p apps.Peer, app, name string, now int64) {
	if name == "" {
		for _, g := range r.all[app] {
			r.tryAny(d, g, p, now)
		}
		return
	}
	r.tryTerms(d, r.exact[target{app, name}], p, now)
	r.tryTerms(d, r.exact[target{app, ""}], p, now)
	for _, v := range r.vague[app] {
		if v.matches(name) {
			r.tryAny(d, v.grant, p, now)
		}
	}
}

// tryTerms tries the grants of one target by the terms that mean the peer.
func (r *Rights) tryTerms(d *Decision, terms map[string][]*grant, p apps.Peer, now int64) {
	if len(terms) == 0 {
		return
	}
	end := r.ends[p.User]
	for _, g := range terms[p.User] {
		d.add(g, p, end, now)
	}
	for _, g := range terms[policy.Anybody] {
		d.add(g, p, end, now)
	}
	for _, m := range r.of[p.User] {
		for _, g := range terms[m.group] {
			d.add(g, p, earlier(m.until, end), now)
		}
	}
}

// tryAny tries all terms of a grant.
func (r *Rights) tryAny(d *Decision, g *grant, p apps.Peer, now int64) {
	end := r.ends[p.User]
	for _, w := range g.Who {
		if w.Name == p.User || w.Name == policy.Anybody {
			d.add(g, p, end, now)
		} else if until, member := r.groups[w.Name][p.User]; member {
			d.add(g, p, earlier(until, end), now)
		}
	}
}

// add takes in what a grant gives a peer that it is for, until an end. Of several grants the one
// that lasts longest is told.
func (d *Decision) add(g *grant, p apps.Peer, until, now int64) {
	until = earlier(until, g.Until)
	switch {
	case !g.fits(p):
		if d.Reason == NoGrant {
			*d = Decision{Grant: g.Name, Reason: WrongDevice}
		}
	case !lasts(until, now):
		if !d.Allow && (d.Reason != Ended || until > d.Until) {
			*d = Decision{Grant: g.Name, Until: until, Reason: Ended}
		}
	case !d.Allow || d.Until != 0 && (until == 0 || until > d.Until):
		*d = Decision{Allow: true, Grant: g.Name, Until: until, Reason: Granted}
	}
}

// fits reports whether the grant is for the endpoint that asks.
func (g *grant) fits(p apps.Peer) bool {
	for _, set := range g.from {
		if _, there := set[p.ID]; there {
			return true
		}
	}
	return g.from == nil
}

// earlier returns the earlier of two ends.
func earlier(a, b int64) int64 {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// Users lists all users that the policy may mean at this endpoint, sorted: those of its groups and of
// its grants.
func (r *Rights) Users() []string {
	if r == nil {
		return nil
	}
	users := map[string]struct{}{}
	for u := range r.of {
		users[u] = struct{}{}
	}
	for _, list := range r.all {
		for _, g := range list {
			for _, w := range g.Who {
				if apps.IsUser(w.Name) {
					users[w.Name] = struct{}{}
				}
			}
		}
	}
	return slices.Sorted(maps.Keys(users))
}
