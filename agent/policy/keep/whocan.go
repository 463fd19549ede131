package keep

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"ztm/agent/api"
	"ztm/agent/policy"
	"ztm/apps"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	signed "ztm/tunnel/identity/policy"
)

// Rule is the rule of an app at this endpoint for one target.
type Rule struct {
	Who  []string             // whom it names, in terms
	Lets func(apps.Peer) bool // what it decides, where there is more to it than Who; nil: that decides
}

// read is what a grant calls the right to ask an endpoint who can reach what there.
const (
	policyApp  = "policy"
	policyRead = "read"
)

// Reads reports whether a request below "policy" of a peer of another user is one that it may make: of
// root, and of whom a grant gives policy/read here. Grants that are not enforced give nothing.
func (k *Keeper) Reads(r *http.Request, path string, p apps.Peer, root bool) bool {
	if r.Method != http.MethodGet || path != policyApp && path != policyApp+"/who-can" || r.URL.Query().Has("of") {
		return false
	}
	rights := k.Rights()
	return root || rights.Enforces() && rights.Decide(p, policyApp, policyRead, k.now()).Reason == policy.Granted
}

// whoCan lists who can reach a target here, of all that the rule and the policy name: who is not in
// the list cannot. of is another endpoint, which does not answer: a holder of the CA key lists whom the
// policy would let in there.
func (k *Keeper) whoCan(ctx context.Context, target string, of identity.ID) (api.WhoCan, error) {
	if of != "" && of != k.Self {
		return k.bound(target, of)
	}
	app, name, _ := strings.Cut(target, "/")
	rule, err := k.Rule(app, name)
	if err != nil {
		return api.WhoCan{}, err
	}
	k.Await(ctx, rule.Who)
	out := api.WhoCan{Trust: k.Verifier.Trust().Version(), Rows: []api.Access{{User: k.User(), App: app, Target: name, Allow: true, Rule: "the endpoint's own user"}}}
	k.mu.Lock()
	if k.slice != nil && k.head != nil {
		out.Policy = k.head.Version
	}
	k.mu.Unlock()
	out.Rows = append(out.Rows, k.rows(rule, app, name)...)
	out.Also = k.also(app)
	return out, nil
}

// rows are those of all but the endpoint's own user.
func (k *Keeper) rows(rule Rule, app, name string) (rows []api.Access) {
	users := slices.Concat(k.rights.Load().Users(), slices.DeleteFunc(slices.Clone(rule.Who), func(t string) bool { return !apps.IsUser(t) }))
	slices.Sort(users)
	for _, u := range slices.Compact(users) {
		if u != k.User() {
			rows = append(rows, k.access(u, rule, app, name))
		}
	}
	if slices.Contains(rule.Who, signed.Anybody) {
		rows = append(rows, k.access(signed.Anybody, rule, app, name))
	}
	return rows
}

// also lists who has another way to what an app reaches from here: by what they run at this endpoint.
func (k *Keeper) also(app string) []api.Access {
	out := []api.Access{}
	for _, shell := range k.Apps() {
		rule, err := k.Rule(shell, "")
		if err != nil || shell == app || !policy.Runs(shell) {
			continue
		}
		for _, row := range k.rows(rule, shell, "") {
			if row.Allow {
				out = append(out, row)
			}
		}
	}
	return out
}

// access is one row. A peer of the user is thought of that is no endpoint which a label or a grant
// names.
func (k *Keeper) access(user string, rule Rule, app, name string) api.Access {
	r, p, now := k.rights.Load(), apps.Peer{User: user}, k.now()
	out := api.Access{User: user, App: app, Target: name}
	named := r.Names(p, rule.Who, now) || user == signed.Anybody
	if rule.Lets != nil {
		named = rule.Lets(p)
	}
	d := r.Decide(p, app, name, now)
	out.Allow = named && d.Allow
	if d.Until != 0 {
		out.Until = time.Unix(d.Until, 0).UTC()
	}
	switch {
	case !named:
		out.Rule = "no: the owner's rule does not let them"
	case d.Grant != "":
		out.Rule = string(d.Reason) + ": grant " + d.Grant
	case d.Allow:
		out.Rule = "the owner's rule: " + strings.Join(rule.Who, " ")
	default:
		out.Rule = string(d.Reason)
	}
	return out
}

// bound lists whom the policy lets reach a target of another endpoint. It is an upper bound: what the
// rules there say only that endpoint knows.
func (k *Keeper) bound(target string, of identity.ID) (api.WhoCan, error) {
	source, version, err := k.Source()
	if err != nil {
		return api.WhoCan{}, err
	}
	out := api.WhoCan{Policy: version, Trust: k.Verifier.Trust().Version(), Bound: true, Rows: []api.Access{}, Also: []api.Access{}}
	if source.Mode != signed.Enforce {
		return out, answer.Errorf(answer.NotFound, "the policy enforces no grants: the rules of the endpoint decide, and it does not answer")
	}
	trust := k.Verifier.Trust()
	r := policy.Compile(source.Slice(&signed.Signed{}, of, nil), func(user string, added int64) bool { return trust.Voids(user, time.Unix(added, 0)) })
	app, name, _ := strings.Cut(target, "/")
	for _, u := range append(r.Users(), signed.Anybody) {
		d := r.Decide(apps.Peer{User: u}, app, name, k.now())
		if !d.Allow {
			continue
		}
		row := api.Access{User: u, App: app, Target: name, Allow: true, Rule: "by the policy: grant " + d.Grant}
		if d.Until != 0 {
			row.Until = time.Unix(d.Until, 0).UTC()
		}
		out.Rows = append(out.Rows, row)
	}
	return out, nil
}
