package keep

import (
	"context"
	"maps"
	"net/http"
	"slices"

	"ztm/agent/api"
	"ztm/agent/policy"
	"ztm/apps"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	signed "ztm/tunnel/identity/policy"
)

// rule is the rule of an app at this endpoint for one target.
type rule struct {
	who  []string             // whom it names, in terms
	lets func(apps.Peer) bool // what it decides, where there is more to it than who; nil: that decides
}

// rule returns the rule of an app, for what a grant calls name.
func (k *Keeper) rule(app, name string) (rule, error) {
	a := k.App(app)
	if a == nil {
		return rule{}, answer.Errorf(answer.NotFound, "the endpoint has no app %q", app)
	}
	r, ok := a.(apps.Ruled)
	if !ok {
		return rule{}, answer.Errorf(answer.NotFound, "app %s does not say whom its rules name", app)
	}
	who, err := r.Rule(name)
	out := rule{who: who}
	if d, ok := a.(apps.Deciding); ok {
		out.lets = func(p apps.Peer) bool { return d.Lets(p, name) }
	}
	return out, err
}

// rulesOf lists whom the rules of an app name, by what a grant would have to give. An app that does not
// say it judges each flow itself, of whomever.
func (k *Keeper) rulesOf(app string) (map[string][]string, error) {
	switch a := k.App(app).(type) {
	case apps.Listing:
		return a.Rules()
	case apps.Ruled:
		who, err := a.Rule("")
		return map[string][]string{"": who}, err
	}
	return map[string][]string{"": {signed.Anybody}}, nil
}

// rules lists the rules of all apps, sorted by target.
func (k *Keeper) rules() ([]api.Rule, error) {
	out := []api.Rule{}
	for _, app := range k.Apps() {
		rules, err := k.rulesOf(app)
		if err != nil {
			return nil, err
		}
		for _, name := range slices.Sorted(maps.Keys(rules)) {
			if who := slices.Compact(slices.Sorted(slices.Values(rules[name]))); len(who) > 0 {
				out = append(out, api.Rule{To: api.Access{App: app, Target: name}.To(), Who: who})
			}
		}
	}
	return out, nil
}

// can asks another endpoint what this one may reach there.
func (k *Keeper) can(ctx context.Context, of identity.ID) (out api.WhoCan, err error) {
	if of == k.Self {
		return k.may(ctx, apps.Peer{ID: k.Self, User: k.User()})
	}
	return out, k.ask(ctx, of, http.MethodGet, PathCan, nil, signed.MaxSlice, &out)
}

// may lists what a peer may reach here, as far as rules and grants say it: what both allow. The
// peer learns nothing of what others may.
func (k *Keeper) may(ctx context.Context, p apps.Peer) (api.WhoCan, error) {
	out := api.WhoCan{Policy: k.Version(), Trust: k.Verifier.Trust().Version(), Rows: []api.Access{}, Also: []api.Access{}}
	if p.User == k.User() {
		out.Rows = append(out.Rows, api.Access{User: p.User, App: signed.Anybody, Allow: true, Rule: "the endpoint's own user"})
		return out, nil
	}
	for _, app := range k.Apps() {
		rules, err := k.rulesOf(app)
		if err != nil {
			return out, err
		}
		k.Await(ctx, slices.Concat(slices.Collect(maps.Values(rules))...))
		out.Rows = append(out.Rows, k.mayUse(p, app, rules)...)
	}
	return out, nil
}

// mayUse is may for one app.
func (k *Keeper) mayUse(p apps.Peer, app string, rules map[string][]string) (rows []api.Access) {
	r, now := k.Rights(), k.now()
	given := r.Given(p, app, now)
	for _, name := range slices.Sorted(maps.Keys(rules)) {
		switch {
		case !r.Names(p, rules[name], now):
		case r.Enforces():
			rows = append(rows, meets(p, app, name, given)...)
		default:
			rows = append(rows, api.Access{User: p.User, App: app, Target: name, Allow: true, Rule: "the owner's rule"})
		}
	}
	return rows
}

// meets lists what grants give of a name that a rule lets a peer have.
func meets(p apps.Peer, app, name string, given map[string]policy.Decision) (rows []api.Access) {
	best := map[string]policy.Decision{}
	for g, d := range given {
		if both, meet := policy.Meet(g, name); meet && (!best[both].Allow || d.Outlasts(best[both])) {
			best[both] = d
		}
	}
	for _, both := range slices.Sorted(maps.Keys(best)) {
		row := api.Access{User: p.User, App: app, Target: both, Allow: true, Rule: "a grant and the owner's rule"}
		if end := best[both].Until; end != 0 {
			row.Until = end.Time().UTC()
		}
		rows = append(rows, row)
	}
	return rows
}
