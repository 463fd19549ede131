package relay

import (
	"ztm/tunnel/identity"
	"ztm/tunnel/limit"
)

// pending counts the paths that wait for an endpoint. One user gets half of the places at most,
// however many endpoints they have, and a quarter is kept for users who have few. So no user can
// keep the others out.
type pending struct {
	all    limit.Counts[identity.ID]
	byUser limit.Counts[userAt]
}

// userAt is a user who waits for an endpoint.
type userAt struct {
	user   string
	target identity.ID
}

// acquire adds one of a user for a target if there is a place, of most in all, and reports whether
// there was.
func (p *pending) acquire(user string, target identity.ID, most int) bool {
	key := userAt{user, target}
	few := p.byUser.Acquire(key, max(most/16, 1))
	if !few && !p.byUser.Acquire(key, most/2) {
		return false
	}
	if few && p.all.Acquire(target, most) || !few && p.all.Acquire(target, most-most/4) {
		return true
	}
	p.byUser.Release(key)
	return false
}

func (p *pending) release(user string, target identity.ID) {
	p.byUser.Release(userAt{user, target})
	p.all.Release(target)
}
