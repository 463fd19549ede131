package keep

import (
	"context"
	"slices"
	"strings"

	"ztm/agent/policy"
	"ztm/apps"
	"ztm/tunnel/answer"
	signed "ztm/tunnel/identity/policy"
	"ztm/tunnel/unixtime"
)

// AwaitRule gets what the rule for a target names and is not known here yet.
func (k *Keeper) AwaitRule(ctx context.Context, app, path, address string) {
	if rule, err := k.rule(app, policy.Target(app, path, address)); err == nil {
		k.Await(ctx, rule.who)
	}
}

// Permit returns nil if the policy gives a peer what it asks of an app. The endpoint's own user needs
// no grant.
func (k *Keeper) Permit(p apps.Peer, app, path, address string) error {
	if p.User != "" && p.User == k.User() {
		return nil
	}
	name := policy.Target(app, path, address)
	d := k.Rights().Decide(p, app, name, k.now())
	switch {
	case d.Allow:
		return nil
	case d.Reason == policy.Ended:
		what, end := strings.TrimSpace(app+" "+name), d.Until.Time()
		err := answer.Errorf(answer.Denied, "policy: the access of user %s ended %s", p.User, unixtime.Text(end))
		if d.Grant != "" {
			err = answer.Errorf(answer.Denied, "policy: grant %s gave user %s %s until %s", d.Grant, p.User, what, unixtime.Text(end))
		}
		return &apps.Ended{What: what, At: end, Err: err}
	case d.Reason == policy.WrongDevice:
		return answer.Errorf(answer.Denied, "policy: grant %s is not for endpoint %s of user %s", d.Grant, p.ID, p.User)
	case d.Reason == policy.StalePolicy:
		return answer.Errorf(answer.Denied, "policy: a newer version is in force in the mesh, and this endpoint has not got it: no endpoint that holds the CA key answers")
	}
	return answer.Errorf(answer.Denied, "policy: no grant gives user %s %s %s here", p.User, app, name)
}

// NoGrant is the rule that lets somebody in while grants are only observed.
const NoGrant = "no grant: refused once grants are enforced"

// RuleOf says what lets a peer have what it asks for: a grant of the policy, the term of the owner's
// rule that names it, or both.
func (k *Keeper) RuleOf(p apps.Peer, app, path, address string) string {
	if p.User != "" && p.User == k.User() {
		return "the endpoint's own user"
	}
	var out []string
	name := policy.Target(app, path, address)
	if d := k.Rights().Decide(p, app, name, k.now()); d.Grant != "" {
		out = append(out, "grant "+d.Grant)
		k.announceUse(p, d.Grant, app, name)
	} else if d.Reason == policy.WouldRefuse {
		out = append(out, NoGrant)
	}
	rule, err := k.rule(app, name)
	if i := slices.IndexFunc(rule.who, func(term string) bool { return k.Names(p, []string{term}) }); err == nil && i >= 0 {
		out = append(out, "users "+rule.who[i])
	}
	return strings.Join(out, "; ")
}

// announceUse tells of a flow by a grant if that is for a group whose use is announced.
func (k *Keeper) announceUse(p apps.Peer, grant, app, name string) {
	k.mu.Lock()
	slice, loud := k.slice, k.loud
	k.mu.Unlock()
	if !loud {
		return
	}
	i := slices.IndexFunc(slice.Grants, func(g signed.Given) bool { return g.Name == grant })
	if i < 0 {
		return
	}
	for _, w := range slice.Grants[i].Who {
		group, isGroup := strings.CutPrefix(w.Name, signed.GroupPrefix)
		if isGroup && slice.Groups[group].Notify && k.Names(p, []string{w.Name}) {
			k.Announce(group, "user "+p.User+" uses "+app, name)
		}
	}
}

// isLoud reports whether a slice has a group whose use is announced.
func isLoud(s *signed.Slice) bool {
	for _, g := range s.Groups {
		if g.Notify {
			return true
		}
	}
	return false
}
