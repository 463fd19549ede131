package apps

import (
	"slices"
	"strings"

	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	"ztm/tunnel/identity/policy"
)

// Whom a rule of an app is for is written in one way everywhere:
//
//	bob               a user
//	group:ops         the members of a group
//	label:kind=till   endpoints that root has given a label; "+" joins several that it must have
//	@policy           whoever the policy of the mesh lets; without one, nobody
//	*                 every member of the mesh
//
// [Names] decides whether a list of such terms means a peer. An empty list means nobody.

// Names reports whether a list of terms means a peer, now. It is asked for each flow: who is in a
// group changes, and ends.
type Names func(p Peer, who []string) bool

// Judge is an app that lets something run for peers by rules of who they are. Judge looks at all of
// it again, since the policy of the mesh has changed or something of it has ended, and ends what the
// app's rules do not allow any longer. The mesh has ended the flows already that the policy does not
// give their peers: lets says whether it gives a peer flows of a path, for what outlives its flow. It
// may be called at any time, from any goroutine.
type Judge interface {
	Judge(lets func(p Peer, path string) bool)
}

// Ruled is an app that says whom its rule for something names. name is what the policy calls it:
// "tcp/db". What is not there is an *[answer.Error].
type Ruled interface {
	Rule(name string) ([]string, error)
}

// Deciding is an app whose rules are more than a list of whom they name. Lets reports whether they let
// a peer reach what the policy calls name; the policy itself is not asked.
type Deciding interface {
	Ruled
	Lets(p Peer, name string) bool
}

// Listing is an app that lists all of its rules.
type Listing interface {
	Ruled

	// Rules lists whom the rules name, by what a grant would have to give for the same users to get as
	// far as the rules: "tcp/db", or "forward/*" where rules say more than a grant can.
	Rules() (map[string][]string, error)
}

// ByPolicy is the term of a rule that leaves it to the policy.
const ByPolicy = "@policy"

// CheckWho returns nil if all of the terms are well-formed, and an *[answer.Error] otherwise.
// Whether there are such users, groups and labels is not known here.
func CheckWho(terms []string) error {
	for _, t := range terms {
		if err := checkTerm(t); err != nil {
			return answer.Errorf(answer.BadRequest, "%v", err)
		}
	}
	return nil
}

// CheckNamed is CheckWho for what is not given to every member of the mesh: "*" is refused.
func CheckNamed(terms []string) error {
	if slices.Contains(terms, policy.Anybody) {
		return answer.Errorf(answer.BadRequest, "%q is everybody: name users or groups, or leave it to the policy with %s", policy.Anybody, ByPolicy)
	}
	return CheckWho(terms)
}

// Changed returns a list without what is removed and with what is added, sorted. To remove what is
// not there is an *[answer.Error]: it was misspelt, and what was meant is there still.
func Changed(what string, list, add, remove []string) ([]string, error) {
	list = slices.Concat(list, add)
	for _, one := range remove {
		if !slices.Contains(list, one) {
			return nil, answer.Errorf(answer.NotFound, "there is no %s %q to remove", what, one)
		}
	}
	list = slices.DeleteFunc(list, func(one string) bool { return slices.Contains(remove, one) })
	slices.Sort(list)
	return slices.Compact(list), nil
}

func checkTerm(t string) error {
	if group, ok := strings.CutPrefix(t, policy.GroupPrefix); ok {
		return identity.CheckName(group)
	}
	if strings.HasPrefix(t, policy.LabelPrefix) {
		return policy.CheckLabels(t)
	}
	if t == ByPolicy || t == policy.Anybody {
		return nil
	}
	return identity.CheckName(t)
}

// IsUser reports whether a term is a plain user.
func IsUser(term string) bool { return identity.CheckName(term) == nil }
