package file

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	decide "ztm/agent/policy"
	"ztm/apps"
	"ztm/tunnel/identity"
	"ztm/tunnel/identity/policy"
)

// How a policy is made of the rules of owners:
//
//	rules of an endpoint: target -> terms
//	  -> gifts: a user, group or label gets a target there -> those that differ in one list alone are one grant
//
// Rules and grants narrow each other, so grants that are made of the rules change nothing. There is no
// grant for an endpoint whose rules are not known: one that stood in for them would be for everybody,
// and the rules may leave it to the policy.

// Owned is an endpoint with the rules of its owner.
type Owned struct {
	Name  string
	ID    identity.ID
	Rules map[string][]string // terms, by what a grant would have to give
}

// fromRules begins the names of the grants that are made of rules.
const fromRules = "rules"

// gift is one thing for some users at some endpoints: lists of terms, sorted and joined.
type gift struct{ who, from, to, at string }

// Adopt returns a policy that lets everybody reach at some endpoints what they reach by the rules of
// their owners, and what of the rules it leaves out. Groups, labels and ends stay as they are, and so do
// grants that are enforced already. Errors are for people.
func Adopt(s *policy.Source, all []Owned) (next *policy.Source, left []string, err error) {
	next = s.Clone()
	if s.Mode != policy.Enforce {
		next.Mode, next.Grants = policy.Enforce, []policy.Grant{}
	}
	var gifts []gift
	for _, e := range all {
		name, err := pin(next, e)
		if err != nil {
			return nil, nil, err
		}
		some, without := giftsOf(next, name, e.Rules)
		gifts, left = append(gifts, some...), append(left, without...)
	}
	addGrants(next, join(join(join(gifts, whoOfGift), atOfGift), toOfGift))
	return next, left, next.Check()
}

// pin returns the name that the policy has for an endpoint, and gives it one.
func pin(s *policy.Source, e Owned) (string, error) {
	for name, known := range s.Endpoints {
		if known.ID == e.ID {
			return name, nil
		}
	}
	if known, taken := s.Endpoints[e.Name]; taken {
		return "", fmt.Errorf("endpoint %s has the ID %s in the policy, and %s in the mesh: see which one is meant", e.Name, known.ID, e.ID)
	}
	s.Endpoints[e.Name] = policy.Endpoint{ID: e.ID}
	return e.Name, nil
}

// giftsOf are what the rules of an endpoint give. Users whom they name are known to the policy from
// then on. A group that it does not know has no members: left says so.
func giftsOf(s *policy.Source, at string, rules map[string][]string) (gifts []gift, left []string) {
	for _, to := range names(rules) {
		for _, term := range rules[to] {
			group, isGroup := strings.CutPrefix(term, policy.GroupPrefix)
			_, known := s.Groups[group]
			switch {
			case term == apps.ByPolicy: // whoever has a grant
			case apps.CheckWho([]string{term}) != nil || !isTarget(to):
				left = append(left, fmt.Sprintf("%q at %s names %q: that means nothing to this version", to, at, term))
			case isGroup && !known:
				left = append(left, fmt.Sprintf("%s at %s names %s, which the policy does not have: nobody", to, at, term))
			case strings.HasPrefix(term, policy.LabelPrefix):
				gifts = append(gifts, gift{policy.Anybody, term, to, at})
			default:
				if _, there := s.Users[term]; !there && apps.IsUser(term) {
					s.Users[term] = policy.User{}
				}
				gifts = append(gifts, gift{term, policy.Anybody, to, at})
			}
		}
	}
	return gifts, left
}

// isTarget reports whether a grant can give what an endpoint says that it has rules for.
func isTarget(to string) bool {
	app, _, _ := strings.Cut(to, "/")
	return identity.CheckName(app) == nil && !strings.ContainsRune(to, ' ') && decide.CheckTarget(to) == nil
}

// The lists in which gifts may differ that become one.
func whoOfGift(g *gift) *string { return &g.who }
func atOfGift(g *gift) *string  { return &g.at }
func toOfGift(g *gift) *string  { return &g.to }

// join makes gifts that differ in one list alone to one.
func join(gifts []gift, list func(*gift) *string) []gift {
	lists := map[gift][]string{}
	for _, g := range gifts {
		item := *list(&g)
		*list(&g) = ""
		lists[g] = append(lists[g], strings.Fields(item)...)
	}
	var out []gift
	for g, items := range lists {
		slices.Sort(items)
		for some := range slices.Chunk(slices.Compact(items), policy.MaxTerms) {
			*list(&g) = strings.Join(some, " ")
			out = append(out, g)
		}
	}
	slices.SortFunc(out, func(a, b gift) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.who, b.who), cmp.Compare(a.from, b.from), cmp.Compare(a.to, b.to))
	})
	return out
}

// addGrants makes grants of gifts.
func addGrants(s *policy.Source, gifts []gift) {
	n := lastNumber(s)
	for i, g := range gifts {
		var who []policy.Who
		for term := range strings.FieldsSeq(g.who) {
			w := policy.Who{Name: term}
			if apps.IsUser(term) {
				w.Added = 1 // a file does not say it: whoever applies it does
			}
			who = append(who, w)
		}
		s.Grants = append(s.Grants, policy.Grant{Name: fmt.Sprintf("%s-%d", fromRules, n+1+i), Who: who, To: strings.Fields(g.to), At: strings.Fields(g.at), From: strings.Fields(g.from)})
	}
}

// lastNumber is the highest number of the grants that were made of rules before.
func lastNumber(s *policy.Source) (last int) {
	for _, g := range s.Grants {
		if after, ok := strings.CutPrefix(g.Name, fromRules+"-"); ok {
			if n, err := strconv.Atoi(after); err == nil {
				last = max(last, n)
			}
		}
	}
	return last
}
