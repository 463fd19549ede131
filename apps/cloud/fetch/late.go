package fetch

import (
	"slices"
	"time"

	"ztm/apps/cloud/wire"
)

// When a source is late with a block: another one that has it, and nothing else to do, would have
// brought it by then several times over.
const (
	lateFactor = 4
	lateLeast  = time.Second           // less is a matter of chance
	writePause = 50 * time.Millisecond // until a part that is being written is written
)

// borrowLocked asks this source for a block, or the list of blocks, with which another one is late.
// That one may bring it all the same, and it is dropped then. A source that owes something itself is
// asked for nothing. Where nobody is late yet, or the job may have no more yet, it has the link woken
// when that is over.
func (l *link) borrowLocked(out []byte) []byte {
	if len(l.sent) > 0 {
		return out // its end wakes the link
	}
	now, soonest := time.Now(), time.Duration(0)
	for _, o := range l.f.links {
		for _, a := range o.sent {
			if o == l || !l.mayBorrowLocked(a) {
				continue
			}
			wait := max(l.lateAfter(a)-now.Sub(o.since), a.j.Rate.wait(now))
			if wait <= 0 && a.writing {
				wait = writePause
			}
			if wait <= 0 {
				a.lent = true
				l.f.budget += a.cost
				return l.sendLocked(&asked{Request: a.Request, j: a.j}, out)
			}
			if soonest == 0 || wait < soonest {
				soonest = wait
			}
		}
	}
	if soonest > 0 {
		l.f.wakeLocked(soonest)
	}
	return out
}

// mayBorrowLocked reports whether what another source owes is missing and can come from this one.
func (l *link) mayBorrowLocked(a *asked) bool {
	s := a.j.sources[l.id]
	owes := func(o *asked) bool { return o.j == a.j && o.Request == a.Request }
	switch {
	case s == nil, a.lent, a.j.ended, slices.ContainsFunc(l.sent, owes):
		return false
	case a.Op == wire.List:
		return a.j.list == nil
	}
	return a.Op == wire.Block && s.has != nil && s.has.Has(int(a.N)) && !a.j.have.Has(int(a.N))
}

// lateAfter returns how long another source may take for something that this one could bring.
func (l *link) lateAfter(a *asked) time.Duration {
	if l.speed == 0 {
		return l.f.Stall / 3
	}
	return max(lateLeast, time.Duration(lateFactor*float64(a.most())/l.speed*float64(time.Second)))
}

// tookLocked notes how long the source took for the first answer, and that the next one is the first
// now.
func (l *link) tookLocked(a *asked, now time.Time) {
	if took := now.Sub(l.since).Seconds(); a.Op == wire.Block && took > 0 {
		speed := float64(a.most()) / took
		if l.speed == 0 {
			l.speed = speed
		}
		l.speed += (speed - l.speed) / 4
	}
	l.since = now
}

// awaited reports whether anybody waits for what the source owes, or it owes nothing.
func (l *link) awaited() bool {
	l.f.mu.Lock()
	defer l.f.mu.Unlock()
	return !l.void
}

// wakeLocked wakes all links after a while.
func (f *Fetcher) wakeLocked(after time.Duration) {
	at := time.Now().Add(after)
	switch {
	case f.alarm == nil:
		f.alarm = time.AfterFunc(after, f.ring)
	case f.due.IsZero() || at.Before(f.due):
		f.alarm.Reset(after)
	default:
		return
	}
	f.due = at
}

func (f *Fetcher) ring() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.due = time.Time{}
	f.wake.Broadcast()
}

// Rate is a speed that jobs share: so many bytes a second, on average. A block comes as fast as it
// can, and then none is asked for until its time is over. nil is no limit. The lock of the Fetcher
// guards it.
type Rate struct {
	perSecond int64
	next      time.Time // when the time of all blocks so far is over
}

// NewRate returns a rate of so many bytes a second; nil for zero.
func NewRate(perSecond int64) *Rate {
	if perSecond <= 0 {
		return nil
	}
	return &Rate{perSecond: perSecond}
}

// wait returns how long to wait before the next block is asked for.
func (r *Rate) wait(now time.Time) time.Duration {
	if r == nil {
		return 0
	}
	return r.next.Sub(now)
}

// spend counts a block. Time in which none came is not made up for.
func (r *Rate) spend(bytes int64, now time.Time) {
	if r == nil {
		return
	}
	if r.next.Before(now) {
		r.next = now
	}
	r.next = r.next.Add(time.Duration(float64(bytes) / float64(r.perSecond) * float64(time.Second)))
}
