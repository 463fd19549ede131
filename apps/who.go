package apps

import (
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
// [Host.Names] decides whether a list of such terms means a peer. An empty list means nobody.

// ByPolicy is the term of a rule that leaves it to the policy.
const ByPolicy = "@policy"

// CheckWho returns nil if all of the terms are well-formed, and an *[answer.Error] otherwise.
// Whether there are such users, groups and labels is not known here: see [Host.Unknown].
func CheckWho(terms []string) error {
	for _, t := range terms {
		if err := checkTerm(t); err != nil {
			return answer.Errorf(answer.BadRequest, "%v", err)
		}
	}
	return nil
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
