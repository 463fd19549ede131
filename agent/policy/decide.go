package policy

import (
	"maps"
	"slices"
	"strings"

	"ztm/apps"
	"ztm/apps/reach"
	"ztm/tunnel/identity/policy"
	"ztm/tunnel/unixtime"
)

// Decision is what the policy says of one target. It says nothing of the rules of the endpoint.
type Decision struct {
	Allow  bool
	Grant  string           // the grant that allows it, or that did until it ended; "": no grant has to do with it
	Until  unixtime.Seconds // when that ends or has ended, Unix seconds; 0: not
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
func (r *Rights) Decide(p apps.Peer, app, name string, now unixtime.Seconds) Decision {
	d, end, decided := r.before(p, now)
	if decided {
		return d
	}
	if p.User != "" {
		r.search(&d, p, app, name, end, now)
	}
	return r.after(d)
}

// before decides what needs no grant to be decided; else it returns what is the case if there is none.
// end is that of the user.
func (r *Rights) before(p apps.Peer, now unixtime.Seconds) (d Decision, end unixtime.Seconds, decided bool) {
	end = r.End(p.User)
	switch {
	case !lasts(end, now): // in each mode
		return Decision{Until: end, Reason: Ended}, end, true
	case r == nil || r.mode == policy.GroupsOnly:
		return Decision{Allow: true, Reason: NoPolicy}, end, true
	case r.stale && r.mode == policy.Enforce:
		return Decision{Reason: StalePolicy}, end, true
	}
	return Decision{Reason: NoGrant}, end, false
}

// after is what a decision by grants comes to in the mode of the policy.
func (r *Rights) after(d Decision) Decision {
	if !d.Allow && r.mode == policy.Observe {
		return Decision{Allow: true, Reason: WouldRefuse}
	}
	return d
}

// search tries all grants of the target.
func (r *Rights) search(d *Decision, p apps.Peer, app, name string, end, now unixtime.Seconds) {
	of := r.of[p.User]
	if name == "" {
		r.all[app].search(d, p, of, end, now)
		return
	}
	r.exact[target{app, name}].search(d, p, of, end, now)
	r.exact[target{app, ""}].search(d, p, of, end, now)
	for i := range min(len(name), r.deep+1) { // a peer chooses how long its name is
		if name[i] == '/' {
			r.below[target{app, name[:i]}].search(d, p, of, end, now)
		}
	}
	if len(r.ranges[app]) == 0 {
		return
	}
	dest, err := reach.ParseDest(strings.TrimPrefix(name, forward))
	if err != nil {
		return
	}
	for _, v := range r.ranges[app] {
		if v.dest.Match(dest) {
			v.search(d, p, of, end, now)
		}
	}
}

// add takes in what a grant gives a peer that it is for, until an end. Of several grants the one
// that lasts longest is told.
func (d *Decision) add(g *grant, p apps.Peer, until, now unixtime.Seconds) {
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
	case !d.Allow || outlasts(until, d.Until):
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

// Outlasts reports whether what is allowed lasts longer than what another decision allows.
func (d Decision) Outlasts(other Decision) bool { return outlasts(d.Until, other.Until) }

// earlier returns the earlier of two ends.
func earlier(a, b unixtime.Seconds) unixtime.Seconds {
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
	for _, ix := range r.all {
		for term := range ix.users {
			if apps.IsUser(term) {
				users[term] = struct{}{}
			}
		}
	}
	return slices.Sorted(maps.Keys(users))
}
