package route

import (
	"context"
	"slices"

	"ztm/apps"
	"ztm/apps/reach"
	"ztm/tunnel/identity"
)

// What decides where a connection goes, see [Step].
const (
	ByRoute    = "route"     // a route of this endpoint
	ByTarget   = "target"    // the most specific target of an exit
	BySearch   = "search"    // an exit that serves the name with a search domain appended
	ByCatchAll = "catch-all" // an exit that serves everything
	ByDefault  = "default"   // no exit serves the destination
)

// Step is one place that a connection may go to. The next step counts if the exits of this one do not
// know the name.
type Step struct {
	By      string
	Pattern string      // of the route, else ""
	Exits   []Candidate // tried in this order; none: the connection is made from this endpoint
}

// Where returns where a connection to d would go, by what is known now. It connects to nothing: an exit
// may still refuse. The error says why the connection goes nowhere.
func (r *Router) Where(ctx context.Context, d reach.Dest) ([]Step, error) {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	s := r.table()
	all, err := r.exits.All(ctx)
	if rt, ok := s.routeOf(d); ok {
		step := Step{By: ByRoute, Pattern: rt.Pattern.String()}
		if rt.Exit != "" {
			step.Exits = candidates(all, []identity.ID{rt.Exit})
		}
		return []Step{step}, nil
	}
	if err != nil {
		return nil, plainError(err)
	}
	all = slices.DeleteFunc(all, func(c Candidate) bool { return !s.Trusted(c.User) })
	var steps []Step
	for _, g := range groups(all, d) {
		steps = append(steps, Step{By: g.by, Exits: candidates(all, g.exits)})
	}
	if n := len(steps); s.Open && (n == 0 || steps[n-1].By == BySearch) {
		steps = append(steps, Step{By: ByDefault})
	}
	if len(steps) == 0 {
		return nil, r.explain(ctx, s, d)
	}
	return steps, nil
}

// candidates returns the exits with these IDs, in their order. Of one that is not known, or is offline,
// the ID is all there is.
func candidates(all []Candidate, ids []identity.ID) []Candidate {
	var out []Candidate
	for _, id := range ids {
		c := Candidate{Endpoint: apps.Endpoint{ID: id}}
		if i := slices.IndexFunc(all, func(c Candidate) bool { return c.ID == id }); i >= 0 {
			c = all[i]
		}
		out = append(out, c)
	}
	return out
}
