package relay

import (
	"context"
	"time"

	"ztm/hub/limits"
	"ztm/tunnel/answer"
	"ztm/tunnel/limit"
)

// Pace bounds how often paths are opened: by a user, and by each endpoint half of that, so that one
// endpoint leaves the others of its user their paths. An endpoint of root has a rate of its own. Make
// it with [NewPace]. It is safe for concurrent use.
type Pace struct{ users, endpoints, root *limit.Buckets[string] }

// NewPace makes a Pace of the rates of a user and of an endpoint of root, for at most so many users
// and endpoints.
func NewPace(user, root limit.Rate, most int) *Pace {
	half := limit.Rate{Burst: user.Burst / 2, PerSecond: user.PerSecond / 2}
	return &Pace{limit.NewBuckets[string](user, most), limit.NewBuckets[string](half, most), limit.NewBuckets[string](root, most)}
}

// Sweep forgets who has opened none for a while.
func (p *Pace) Sweep(now time.Time) {
	p.users.Sweep(now)
	p.endpoints.Sweep(now)
	p.root.Sweep(now)
}

// reserve returns how long a leg waits for its turn; ok is false where that would be too long. What a
// hub says of the endpoints behind it costs nobody else.
func (p *Pace) reserve(a *Leg, now time.Time) (wait time.Duration, ok bool) {
	by := ""
	if a.Hop {
		by = string(a.Hub) + " "
	}
	if a.root() {
		return p.root.Reserve(by+string(a.ID), limits.MaxPathWait, now)
	}
	own, ok := p.endpoints.Reserve(by+string(a.ID), limits.MaxPathWait, now)
	if !ok {
		return limits.MaxPathWait, false
	}
	wait, ok = p.users.Reserve(by+a.User, limits.MaxPathWait, now)
	if !ok {
		return limits.MaxPathWait, false
	}
	return max(wait, own), true
}

// pace waits until a leg may open its path. It holds what it refuses, too, so that a user who asks
// again and again does not cost the hub a handshake each time.
func (r *Relay) pace(ctx context.Context, a *Leg) error {
	wait, ok := r.c.Pace.reserve(a, time.Now())
	if wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-r.open.Done():
			return errShutdown
		case <-a.Gone:
			return errGone
		case <-ctx.Done():
			return errShutdown
		}
	}
	if !ok {
		return answer.Errorf(answer.Limit, "endpoint %s of user %s, or all of that user, open connections too often", a.ID, a.User)
	}
	return nil
}
