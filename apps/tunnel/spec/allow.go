package spec

import "ztm/apps/reach"

// Allow lets users reach addresses through this endpoint without an outbound. The endpoint's own
// user needs none.
type Allow struct {
	Target reach.Pattern `json:"target"`
	Users  []string      `json:"users"`
}
