package route

import (
	"slices"

	"ztm/apps/proxy/policy"
	"ztm/apps/reach"
	"ztm/tunnel/identity"
)

// Table says where connections leave the mesh. It does not change.
type Table struct {
	Routes []Route
	Owner  string   // the endpoint's own user
	Trust  []string // users, beside the owner, whose exits are chosen without being named by a route; "*" is every user
	Open   bool     // without an exit, connect from here
}

// Route sends what matches a pattern to one exit, or out from here.
type Route struct {
	Pattern reach.Pattern
	Exit    identity.ID
}

// routeOf returns the most specific route that is about d.
func (t *Table) routeOf(d reach.Dest) (Route, bool) {
	var best Route
	found := false
	for _, r := range t.Routes {
		if r.Pattern.Match(d) && (!found || r.Pattern.Weight() > best.Pattern.Weight()) {
			best, found = r, true
		}
	}
	return best, found
}

// Trusted reports whether exits of the user are chosen without being named by a route.
func (t *Table) Trusted(user string) bool {
	return user == t.Owner || slices.Contains(t.Trust, user) || slices.Contains(t.Trust, policy.Everyone)
}
