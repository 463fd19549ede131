package control

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"syscall"
	"time"

	"ztm/agent/api"
	"ztm/tunnel"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
)

// How an endpoint comes to its sessions, and keeps them. plan looks at what there is, whenever
// something changes and when it said, and does no more than one step:
//
//  1. too few sessions    the hub that rank wants most and that may be tried now gets an attempt. One that is
//     silent for RaceDelay does not count, so that the next one is tried as well (RFC 8305)
//  2. a hub is better     at a time within homeWithin it is tried, too: make before break
//  3. too many sessions   the one that rank wants least ends
//  4. a hub without one   it is tried once in a while, and left at once: so it is known how far away it is now
//
// A hub that was lost or not reached is tried again after a wait of its own, with full jitter.

const (
	firstDelay   = 500 * time.Millisecond // ten thousand agents must not come back in the same instant
	RefusedDelay = 4 * time.Second        // a restarted hub has everyone back within 5 s
	maxDelay     = 30 * time.Second
	addressDelay = 5 * time.Minute // for an address that may be an old one, while there is a session

	RaceDelay  = 300 * time.Millisecond // so long one address is waited for before the next is tried as well
	homeWithin = 5 * time.Minute
	planEvery  = 5 * time.Minute // round trips change and say nothing
	lookEvery  = time.Hour       // about: a handshake an hour is 150 KB a day
)

// Run keeps sessions with hubs until Life ends.
func (c *Control) Run() {
	for c.Life.Err() == nil {
		timer := time.NewTimer(c.plan(time.Now()))
		select {
		case <-c.woken:
		case <-timer.C:
		case <-c.Life.Done():
		}
		timer.Stop()
	}
	c.attempts.Wait()
}

// Wake has plan look again.
func (c *Control) Wake() {
	select {
	case c.woken <- struct{}{}:
	default: // it will
	}
}

// plan starts and ends sessions, see above, and returns when to look again.
func (c *Control) plan(now time.Time) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, l := range c.readyLocked() {
		l.place.measured(l.rtt(), now)
	}
	ranked := c.rankedLocked(false)
	want := c.wantLocked(len(ranked))
	wake := planEvery
	at := func(t time.Time) { wake = min(wake, max(t.Sub(now), time.Millisecond)) }

	held := 0
	for _, l := range c.links {
		if l.counts(now) {
			held++
		}
		if until := l.countsUntil(); until.After(now) {
			at(until)
		}
	}
	for _, p := range ranked {
		if held >= want {
			break
		}
		if c.triedLocked(p) {
			continue
		}
		if next := later(p.next, c.notBefore); next.After(now) {
			at(next)
			continue
		}
		c.startLocked(p, now)
		at(now.Add(RaceDelay))
		held++
	}
	if held >= want {
		at(c.homeLocked(now, want))
		at(c.lookLocked(now))
		c.trimLocked(now, ranked, want)
	}
	return wake
}

// wantLocked is how many sessions there are to be.
func (c *Control) wantLocked(hubs int) int { return min(max(c.Slots, 1), hubs) }

// counts reports whether a session is one of those that are wanted: it stands and is to last, or is
// about to come.
func (l *link) counts(now time.Time) bool {
	until := l.countsUntil()
	return until.IsZero() || now.Before(until)
}

// countsUntil is until when it does; zero: for good.
func (l *link) countsUntil() time.Time {
	if !l.ready {
		return l.began.Add(RaceDelay)
	}
	return l.leave
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// triedLocked reports whether there is a session with the hub at a place, or an attempt.
func (c *Control) triedLocked(p *place) bool {
	return slices.ContainsFunc(c.links, func(l *link) bool { return l.place == p })
}

// homeLocked tries a hub that is better than one that there is a session with, when its time has
// come, and returns when that is.
func (c *Control) homeLocked(now time.Time, want int) time.Time {
	never := now.Add(planEvery)
	var better *place
	for _, p := range c.rankedLocked(true)[:want] {
		if !c.triedLocked(p) {
			better = p
			break
		}
	}
	switch {
	case better == nil:
		c.homeAt = time.Time{}
		return never
	case c.homeAt.IsZero():
		c.homeAt = now.Add(rand.N(homeWithin))
	case !now.Before(c.homeAt):
		c.homeAt = time.Time{}
		c.startLocked(better, now)
		return never
	}
	return c.homeAt
}

// lookLocked tries the hub without a session that was not measured for longest, when its time has
// come, and returns when that is. claim ends what it gets, unless the hub is better by now.
func (c *Control) lookLocked(now time.Time) time.Time {
	due := !c.lookAt.IsZero() && !now.Before(c.lookAt)
	if due || c.lookAt.IsZero() {
		c.lookAt = now.Add(lookEvery/2 + rand.N(lookEvery))
	}
	var oldest *place
	for _, p := range c.places {
		if !p.addressOnly() && !p.drains && !p.absent && !c.triedLocked(p) && (oldest == nil || p.seen.Before(oldest.seen)) {
			oldest = p
		}
	}
	if due && oldest != nil {
		oldest.seen = now // also if nothing comes of it
		c.startLocked(oldest, now)
	}
	return c.lookAt
}

// trimLocked ends the sessions that are not needed: of those that stand and are to last, the last
// ones by rank, and those that are to end once there are enough others.
func (c *Control) trimLocked(now time.Time, ranked []*place, want int) {
	var lasting []*link
	for _, p := range ranked {
		for _, l := range c.links {
			if l.place == p && l.ready && l.counts(now) {
				lasting = append(lasting, l)
			}
		}
	}
	if len(lasting) < want {
		return
	}
	for _, l := range lasting[want:] {
		l.end(errNotNeeded)
	}
	for _, l := range c.links {
		if l.ready && !l.counts(now) {
			l.end(errNotNeeded)
		}
	}
}

// Reasons to end a session, or not to begin it, that are nobody's fault.
var (
	errNotNeeded = errors.New("there are sessions with hubs that are better")
	errTwice     = errors.New("there is a session with this hub already, at another address")
	errNoHub     = errors.New("its certificate is no longer valid")
)

// startLocked begins an attempt to get a session with the hub at a place.
func (c *Control) startLocked(p *place, now time.Time) {
	if len(c.readyLocked()) == 0 {
		c.setStatusLocked(api.Connecting, c.statusErr) // what went wrong last is worth knowing while we try again
	}
	l := newLink(c, p, now)
	c.links = append(c.links, l)
	c.begin(l)
}

// run runs an attempt, and the session that comes of it.
func (c *Control) run(l *link) {
	c.attempts.Go(func() {
		err := l.hold(c.Life)
		c.ended(l, err)
		c.Wake()
	})
}

// ended notes the end of a session, or of the attempt to get one.
func (c *Control) ended(l *link, err error) {
	l.standby.drop()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.links = slices.DeleteFunc(c.links, func(other *link) bool { return other == l })
	now, p := time.Now(), l.place
	if c.Life.Err() != nil {
		c.setStatusLocked(api.Failed, err)
		return
	}
	switch {
	case errors.Is(err, errNotNeeded) || errors.Is(err, errTwice):
		c.Log.Debug("a session with a hub is not needed", "hub", p.key, "err", err)
	default:
		c.failedLocked(l, err, now)
	}
	c.forgetLocked(p)
	c.leaveLocked(p)
	c.leadLocked()
	if len(c.readyLocked()) > 0 {
		return
	}
	if l.ready {
		c.lost = now
	}
	c.setStatusLocked(api.Failed, c.troubleLocked(err))
}

// failedLocked has a hub that failed wait, and come last.
func (c *Control) failedLocked(l *link, err error, now time.Time) {
	p := l.place
	longest := maxDelay
	if p.addressOnly() && len(c.readyLocked()) > 0 {
		longest = addressDelay
	}
	again := p.failed
	p.failed, p.err = true, err
	p.delay = nextDelay(p.delay, l.ready, err, longest)
	wait := rand.N(p.delay) + time.Millisecond // full jitter
	p.next = now.Add(wait)
	if l.ready {
		c.notBefore = p.next // who shared this hub with us looks for another one as well
	}
	level := slog.LevelWarn
	if again && len(c.readyLocked()) > 0 {
		level = slog.LevelDebug // it may be away for days, and there is another
	}
	c.Log.Log(c.Life, level, "no connection to a hub", "hub", p.addresses(), "err", err, "retry", wait.Round(time.Millisecond))
}

// troubleLocked says of all places why there is no session; err is the last reason.
func (c *Control) troubleLocked(err error) error {
	var errs []error
	for _, p := range c.rankedLocked(false) {
		if p.err != nil && p.failed {
			errs = append(errs, p.err)
		}
	}
	if len(errs) < 2 {
		return err
	}
	return trouble(errs)
}

// trouble says in one sentence that no hub accepts the certificate, and joins other errors.
func trouble(errs []error) error {
	if slices.ContainsFunc(errs, func(err error) bool { return !errors.Is(err, tunnel.ErrRejected) }) {
		return answer.Join(errs...)
	}
	return fmt.Errorf("%d hubs: %w", len(errs), tunnel.ErrRejected)
}

// nextDelay is the upper end of the next wait.
func nextDelay(last time.Duration, wasReady bool, err error, longest time.Duration) time.Duration {
	if wasReady || last == 0 {
		return firstDelay
	}
	if errors.Is(err, syscall.ECONNREFUSED) && longest == maxDelay {
		longest = RefusedDelay
	}
	return min(last*2, longest)
}

// claim makes a session that was dialled that of its hub, unless there is one with that hub already,
// or there are enough with hubs that are better.
func (c *Control) claim(l *link) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, tried := time.Now(), l.place
	p := c.hubLocked(l.hub.ID, l.session.Address())
	if slices.ContainsFunc(c.links, func(other *link) bool { return other != l && other.hub.ID == l.hub.ID }) {
		return errTwice
	}
	l.place = p
	if tried != p && tried.addressOnly() {
		delete(c.places, tried.key)
	}
	p.failed, p.err, p.next = false, nil, time.Time{}
	p.measured(l.rtt(), now)
	ranked := c.rankedLocked(false)
	want := c.wantLocked(len(ranked))
	others := 0
	for _, other := range c.links {
		if other != l && other.hub.ID != "" && (!other.ready || other.counts(now)) {
			others++
		}
	}
	if others >= want && !slices.Contains(ranked[:want], p) {
		return errNotNeeded
	}
	return nil
}

// LeaveHubs ends the sessions with hubs that have no place in the mesh any longer.
func (c *Control) LeaveHubs(gone func(identity.Subject) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, l := range c.readyLocked() {
		if gone(l.hub) {
			c.Log.Info("leaving a hub whose certificate is no longer valid", "hub", l.session.Address())
			l.end(errNoHub)
		}
	}
	for key, p := range c.places {
		if p.doc == nil || c.triedLocked(p) {
			continue
		}
		if _, _, err := c.Verifier.HubRecord(p.doc); err != nil {
			delete(c.places, key)
		}
	}
}

// leaveLocked forgets a hub that was evicted, when its session has ended. One whose certificate a CA has signed
// that was replaced is about to have another, and perhaps nobody else says where it is.
func (c *Control) leaveLocked(p *place) {
	if p.doc == nil || c.places[p.key] != p {
		return
	}
	if _, _, err := c.Verifier.HubRecord(p.doc); errors.Is(err, identity.ErrEvicted) {
		delete(c.places, p.key)
	}
}

// move looks for another hub than the one that is about to end, at a time within what it gives.
func (c *Control) move(l *link, within time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if l.leave.IsZero() {
		l.leave = time.Now().Add(rand.N(min(max(within/2, time.Second), time.Hour)))
		l.place.drains = true
		c.Log.Info("a hub is about to end: another one is looked for", "hub", l.place.addresses())
	}
	c.Wake()
}
