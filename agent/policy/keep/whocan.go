package keep

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"ztm/agent/api"
	"ztm/agent/feature"
	"ztm/agent/policy"
	"ztm/apps"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	signed "ztm/tunnel/identity/policy"
	"ztm/tunnel/unixtime"
)

// read is what a grant calls the right to ask an endpoint who can reach what there.
const (
	policyApp  = "policy"
	policyRead = "read"
)

// Reads reports whether a request below "policy" of a peer of another user is one that it may make: of
// root, and of whom a grant gives policy/read here. Grants that are not enforced give nothing. An error
// says that it asks too often.
func (k *Keeper) Reads(r *http.Request, path string, p apps.Peer, root bool) (bool, error) {
	reads := []string{policyApp, policyApp + "/who-can", policyApp + "/rules"}
	if r.Method != http.MethodGet || !slices.Contains(reads, path) || r.URL.Query().Has("of") {
		return false, nil
	}
	rights := k.Rights()
	if !root && !(rights.Enforces() && rights.Decide(p, policyApp, policyRead, k.now()).Reason == policy.Granted) {
		return false, nil
	}
	if !k.reads.Take(p.ID, time.Now()) {
		return true, answer.Errorf(answer.Limit, "endpoint %s asks who can reach what too often", p.ID)
	}
	return true, nil
}

// whoCan lists who can reach a target here, of all that the rule and the policy name: who is not in
// the list cannot. of is another endpoint, which does not answer: a holder of the CA key lists whom the
// policy would let in there.
func (k *Keeper) whoCan(ctx context.Context, target string, of identity.ID) (api.WhoCan, error) {
	if of != "" && of != k.Self {
		if !feature.Policies {
			return api.WhoCan{}, errMakesNone
		}
		return k.bound(target, of)
	}
	app, name, _ := strings.Cut(target, "/")
	rule, err := k.rule(app, name)
	if err != nil {
		return api.WhoCan{}, err
	}
	k.Await(ctx, rule.who)
	out := api.WhoCan{Trust: k.Verifier.Trust().Version(), Rows: []api.Access{{User: k.User(), App: app, Target: name, Allow: true, Rule: "the endpoint's own user"}}}
	k.mu.Lock()
	if k.slice != nil && k.head != nil {
		out.Policy = k.head.Version
	}
	k.mu.Unlock()
	v := k.view()
	out.Rows = append(out.Rows, k.rows(v, rule, app, name)...)
	out.Also = k.also(v, app, name)
	return out, nil
}

// view is what rows are made by.
type view struct {
	slice  *signed.Slice // nil: there is none
	rights *policy.Rights
	wide   *policy.Rights // rights as if each grant were for all endpoints of whom it means
	now    unixtime.Seconds
}

// view is of what is in force here.
func (k *Keeper) view() view {
	k.mu.Lock()
	slice, r := k.slice, k.rights.Load()
	k.mu.Unlock()
	if slice == nil || r.IsStale() {
		return view{slice, r, r, k.now()}
	}
	return k.viewOf(slice, r)
}

func (k *Keeper) viewOf(s *signed.Slice, r *policy.Rights) view {
	all := *s
	all.Grants = slices.Clone(s.Grants)
	for i := range all.Grants {
		all.Grants[i].From = []string{signed.Anybody}
	}
	return view{s, r, k.compile(&all), k.now()}
}

// decide decides for a user at endpoints that nobody knows. from is where they must be; "" is anywhere.
func (v view) decide(user, app, name string) (d policy.Decision, from string) {
	p := apps.Peer{User: user}
	d = ask(v.rights, p, app, name, v.now)
	if d.Allow {
		return d, ""
	}
	wide := ask(v.wide, p, app, name, v.now)
	if !wide.Allow {
		return d, ""
	}
	i := slices.IndexFunc(v.slice.Grants, func(g signed.Given) bool { return g.Name == wide.Grant })
	return wide, strings.Join(v.slice.Grants[i].From, " ")
}

// ask is Decide, and of all below a name whether anything is given of it.
func ask(r *policy.Rights, p apps.Peer, app, name string, now unixtime.Seconds) policy.Decision {
	if above, all := strings.CutSuffix(name, "/*"); all {
		return r.Below(p, app, above, now)
	}
	return r.Decide(p, app, name, now)
}

// means reports whether a rule lets a peer.
func (v view) means(rule rule, p apps.Peer) bool {
	if rule.lets != nil {
		return rule.lets(p)
	}
	return v.rights.Names(p, rule.who, v.now)
}

// labels lists those terms of a rule that name endpoints by which it lets a user.
func (v view) labels(rule rule, user string) (out []string) {
	if v.slice == nil {
		return nil
	}
	for _, t := range rule.who {
		if there := v.slice.Places[t]; len(there) > 0 && v.means(rule, apps.Peer{User: user, ID: there[0]}) {
			out = append(out, t)
		}
	}
	return out
}

// rows are those of all but the endpoint's own user. The row of everybody does not speak of those
// whose access as a whole has ended.
func (k *Keeper) rows(v view, rule rule, app, name string) (rows []api.Access) {
	users := slices.Concat(v.rights.Users(), slices.DeleteFunc(slices.Clone(rule.who), func(t string) bool { return !apps.IsUser(t) }))
	slices.Sort(users)
	for _, u := range slices.Compact(users) {
		if u != k.User() {
			rows = append(rows, v.access(u, rule, app, name))
		}
	}
	all := v.access(signed.Anybody, rule, app, name)
	if all.Allow || slices.Contains(rule.who, signed.Anybody) {
		rows = append(rows, all)
	}
	return rows
}

// also lists who has another way to what an app reaches from here: by what they run at this endpoint, and
// by addresses that they choose.
func (k *Keeper) also(v view, app, name string) []api.Access {
	out := []api.Access{}
	for _, other := range k.Apps() {
		way, wide := policy.Wide(other)
		if !wide || other == app && (way == "" || policy.Chosen(app, name)) {
			continue
		}
		rules, err := k.rulesOf(other)
		if err != nil {
			continue
		}
		for _, row := range k.rows(v, rule{who: rules[way]}, other, way) {
			if row.Allow {
				out = append(out, row)
			}
		}
	}
	return out
}

// access is one row. A peer of the user is thought of that is no endpoint which a label or a grant
// names; what it would have to be stands in From.
func (v view) access(user string, rule rule, app, name string) api.Access {
	out := api.Access{User: user, App: app, Target: name}
	d, from := v.decide(user, app, name)
	named := v.means(rule, apps.Peer{User: user})
	if !named {
		labels := strings.Join(v.labels(rule, user), " ")
		named = labels != ""
		from = strings.TrimPrefix(from+" and "+labels, " and ")
	}
	if out.Allow = named && d.Allow; out.Allow {
		out.From = from
	}
	if d.Allow && !v.rights.Enforces() {
		d.Until = 0 // the grant decides nothing, and so does its end
	}
	if out.Allow { // the rule may end before the grant does
		if end := v.rights.Until(apps.Peer{User: user}, rule.who, v.now); end != 0 && (d.Until == 0 || end < d.Until) {
			d.Until = end
		}
	}
	if d.Until != 0 {
		out.Until = d.Until.Time().UTC()
	}
	switch {
	case d.Reason == policy.Ended && d.Grant == "":
		out.Rule = "no: their access as a whole has ended"
	case !named:
		out.Rule = "no: the owner's rule does not let them"
	case d.Allow && !v.rights.Enforces():
		out.Rule = "the owner's rule: " + strings.Join(rule.who, " ") + observed(d)
	default:
		out.Rule = because(d)
	}
	return out
}

// observed says for people what grants will say that decide nothing yet.
func observed(d policy.Decision) string {
	switch {
	case d.Reason == policy.WouldRefuse:
		return "; " + NoGrant
	case d.Grant != "":
		return "; once grants are enforced: grant " + d.Grant
	}
	return ""
}

// because says by what the policy decides, for people.
func because(d policy.Decision) string {
	why := map[policy.Reason]string{
		policy.NoGrant: "no: no grant gives it", policy.Ended: "no: ended", policy.WrongDevice: "no: not from this device",
		policy.StalePolicy: "no: a newer policy is in force, and this endpoint has not got it",
	}[d.Reason]
	if d.Grant == "" {
		return why
	}
	return strings.TrimPrefix(why+": grant "+d.Grant, ": ")
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
	slice := source.Slice(&signed.Signed{}, of, nil)
	v := k.viewOf(slice, k.compile(slice))
	app, name, _ := strings.Cut(target, "/")
	for _, u := range append(v.rights.Users(), signed.Anybody) {
		d, from := v.decide(u, app, name)
		if !d.Allow {
			continue
		}
		row := api.Access{User: u, App: app, Target: name, Allow: true, From: from, Rule: "by the policy: grant " + d.Grant}
		if d.Until != 0 {
			row.Until = d.Until.Time().UTC()
		}
		out.Rows = append(out.Rows, row)
	}
	return out, nil
}
