package spec

import "ztm/apps/reach"

// Allow lets users reach addresses through this endpoint without an outbound. The endpoint's own
// user needs none.
type Allow struct {
	Target reach.Pattern `json:"target"`
	Users  []string      `json:"users"`
}

// SameTarget reports whether another rule is about the same target, which has one rule.
func (a Allow) SameTarget(other Allow) bool { return a.Target.String() == other.Target.String() }
