// Package policy decides which users reach what through an exit. It resolves nothing and connects to nothing.
//
// For a user who asks for a name, the decision is made twice:
//
//  1. Screen   before the name is resolved: may this user ask for it at all?
//  2. Permit   for each address of the name: not excluded, within the targets, allowed by the rules
//
// Only addresses that passed Permit are connected to, so that a name cannot lead past an exclusion.
package policy

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"ztm/apps/reach"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	"ztm/tunnel/limit"
)

// Rule says which users may, or may not, reach which of the endpoint's targets. The first rule that is about the user
// and the destination decides. If none is, the endpoint's own user may and everybody else may not.
type Rule struct {
	Users   []string `json:"users"`   // whom it is about; "*" is every user of the mesh
	Targets []string `json:"targets"` // patterns; "*" is every target of the endpoint
	Action  string   `json:"action"`  // "allow" or "deny"
}

// rule is a Rule that was checked.
type rule struct {
	users   []string
	targets []reach.Pattern
	allow   bool
}

// Policy is everything that decides what users reach from here. It does not change. Its lists are shared: read them.
type Policy struct {
	Owner      string // the endpoint's own user, who may reach every target unless a rule denies it
	Targets    []reach.Pattern
	Exclusions []reach.Pattern
	rules      []rule
}

// New reads the policy of an endpoint of the user owner. The lists are patterns.
func New(owner string, targets, exclusions []string, rules []Rule) (*Policy, error) {
	p := &Policy{Owner: owner}
	var err error
	if p.Targets, err = reach.ParsePatterns(targets); err != nil {
		return nil, err
	}
	if p.Exclusions, err = reach.ParsePatterns(exclusions); err != nil {
		return nil, err
	}
	for _, r := range rules {
		one, err := parseRule(r)
		if err != nil {
			return nil, err
		}
		p.rules = append(p.rules, one)
	}
	return p, nil
}

// Asker is somebody who wants to reach something.
type Asker struct {
	User  string
	Names func(who []string) bool // whether the users of a rule mean them
}

// User is an asker whom a rule means by the name of the user alone.
func User(name string) Asker {
	return Asker{name, func(who []string) bool { return slices.Contains(who, name) || slices.Contains(who, Everyone) }}
}

// Rules returns the rules as [New] reads them, in canonical form.
func (p *Policy) Rules() []Rule {
	var out []Rule
	for _, r := range p.rules {
		out = append(out, r.text())
	}
	return out
}

// Everyone stands for every user of the mesh.
const Everyone = "*"

// parseRule checks a rule. An empty list never comes to mean "everyone may": an allow rule has to say whom it allows.
func parseRule(r Rule) (rule, error) {
	if r.Action != "allow" && r.Action != "deny" {
		return rule{}, fmt.Errorf("rule action %q: want allow or deny", limit.Clip(r.Action))
	}
	out := rule{users: slices.Clone(r.Users), allow: r.Action == "allow"}
	if len(r.Users) == 0 {
		if out.allow {
			return rule{}, errors.New("an allow rule must name its users; '*' means every user of the mesh")
		}
		out.users = []string{Everyone}
	}
	if slices.Contains(out.users, "") {
		return rule{}, errors.New("a rule names a user without a name")
	}
	if err := CheckUsers(out.users); err != nil && !out.allow {
		return rule{}, fmt.Errorf("a deny rule names users or '*': who is in a group changes, and whoever leaves it would be allowed (%w)", err)
	}
	targets := r.Targets
	if len(targets) == 0 {
		targets = []string{"*"}
	}
	var err error
	out.targets, err = reach.ParsePatterns(targets)
	return out, err
}

// text is the inverse of [parseRule], in canonical form.
func (r rule) text() Rule {
	t := Rule{Users: r.users, Targets: reach.Texts(r.targets), Action: "deny"}
	if r.allow {
		t.Action = "allow"
	}
	return t
}

// CheckUsers accepts names that a user of a mesh can have, and "*".
func CheckUsers(names []string) error {
	for _, name := range names {
		if name == Everyone {
			continue
		}
		if err := identity.CheckName(name); err != nil {
			return answer.Errorf(answer.BadRequest, "user: %v", err)
		}
	}
	return nil
}

func (r rule) about(a Asker) bool { return a.Names(r.users) }

// Screen refuses what no address could make right, before anything is resolved for the user.
func (p *Policy) Screen(who Asker, d reach.Dest) *answer.Error {
	if !p.mightAllow(who, d) {
		return denied(who.User, d)
	}
	if reach.Excludes(p.Exclusions, d) {
		return answer.Errorf(answer.Prohibited, "%s is excluded at the exit", d)
	}
	if d.Name != "" && !slices.ContainsFunc(p.Targets, func(t reach.Pattern) bool { return t.Prefix.IsValid() || t.Match(d) }) {
		return notTarget(d)
	}
	return nil
}

// mightAllow reports whether the rules let the user reach d, or could, depending on the address of the name.
func (p *Policy) mightAllow(who Asker, d reach.Dest) bool {
	for _, r := range p.rules {
		if !r.about(who) {
			continue
		}
		if !r.allow && reach.Excludes(r.targets, d) {
			return false
		}
		if r.allow && slices.ContainsFunc(r.targets, func(t reach.Pattern) bool { return d.Name != "" && t.Prefix.IsValid() || t.Match(d) }) {
			return true
		}
	}
	return who.User == p.Owner
}

// Permit decides whether the user who asked for d may be connected to addr, which is d's address or one of the
// addresses of its name.
func (p *Policy) Permit(who Asker, d reach.Dest, addr netip.Addr) *answer.Error {
	at := reach.Dest{Addr: addr.Unmap(), Port: d.Port}
	inner := embedded(at.Addr)
	if !p.allows(who, d, at, inner) {
		return denied(who.User, d)
	}
	if never(at.Addr) || reach.Excludes(p.Exclusions, d) || reach.Excludes(p.Exclusions, at) {
		return answer.Errorf(answer.Prohibited, "%s is excluded at the exit", via(d, at))
	}
	for _, a := range inner {
		if never(a) || private(a) || reach.Excludes(p.Exclusions, reach.Dest{Addr: a, Port: d.Port}) {
			return answer.Errorf(answer.Prohibited, "%s stands for %s, which is excluded at the exit", via(d, at), a)
		}
	}
	if private(at.Addr) {
		if !p.namesPrivate(d, at) {
			return answer.Errorf(answer.Prohibited, "%s is the exit's own, and no target names it", via(d, at))
		}
		return nil
	}
	if reach.Heaviest(p.Targets, d) < 0 && reach.Heaviest(p.Targets, at) < 0 {
		return notTarget(d)
	}
	return nil
}

// PermitName decides whether the user may know what the name d stands for. No address will decide, so the name has to.
func (p *Policy) PermitName(who Asker, d reach.Dest) *answer.Error {
	if reach.Heaviest(p.Targets, d) < 0 {
		return notTarget(d)
	}
	if !p.allows(who, d, d, nil) {
		return denied(who.User, d)
	}
	return nil
}

// allows is the decision of the rules alone. inner are the addresses that at stands for: who may not reach one of them
// may not reach it by another name either.
func (p *Policy) allows(who Asker, d, at reach.Dest, inner []netip.Addr) bool {
	denies := func(r rule) bool {
		return reach.Excludes(r.targets, d) || reach.Excludes(r.targets, at) || slices.ContainsFunc(inner, func(a netip.Addr) bool {
			return reach.Excludes(r.targets, reach.Dest{Addr: a, Port: d.Port})
		})
	}
	for _, r := range p.rules {
		switch {
		case !r.about(who):
		case r.allow && (reach.Heaviest(r.targets, d) >= 0 || reach.Heaviest(r.targets, at) >= 0):
			return true
		case !r.allow && denies(r):
			return false
		}
	}
	return who.User == p.Owner
}

// namesPrivate reports whether a target names the private destination: by a network that has nothing but such
// addresses, or by the name localhost. "*", 0.0.0.0/0 and names that happen to resolve to it do not name it.
func (p *Policy) namesPrivate(d, at reach.Dest) bool {
	return slices.ContainsFunc(p.Targets, func(t reach.Pattern) bool {
		if t.Prefix.IsValid() {
			return t.Match(at) && slices.ContainsFunc(privateNetworks, func(n netip.Prefix) bool {
				return n.Bits() <= t.Prefix.Bits() && n.Contains(t.Prefix.Addr())
			})
		}
		return at.Addr.IsLoopback() && (t.Name == "localhost" || strings.HasSuffix(t.Name, ".localhost")) && t.Match(d)
	})
}

func denied(user string, d reach.Dest) *answer.Error {
	return answer.Errorf(answer.Denied, "user %q may not reach %s through this exit", user, d)
}

func notTarget(d reach.Dest) *answer.Error {
	return answer.Errorf(answer.NotFound, "%s is not a target of this exit", d)
}

// via names, for messages, what was asked for and where it led.
func via(d, at reach.Dest) string {
	if d.Name == "" {
		return d.String()
	}
	return fmt.Sprintf("%s (%s)", d, at.Addr)
}
