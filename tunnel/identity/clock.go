package identity

import (
	"runtime/debug"
	"sync"
	"time"
)

// Clock is the time by which certificates are verified: that of the device, but never before a
// floor. A router without a battery boots in 1970. The floor keeps the mesh's certificates from
// looking as if they were of the future. It is the latest of four times: when the binary was
// built, the time that the device kept (see [Floor]), and when the trust list was issued and a
// peer's certificate signed (see [Clock.Hint]). It moves on while the process runs. All methods may be called from any goroutine.
type Clock struct {
	mu    sync.Mutex
	floor time.Time // zero: none
	set   time.Time // when the floor was set, by the device's monotonic clock
}

// NewClock makes a clock whose floor is the latest of the given times and, where the binary knows
// it, of the time of the commit it was built from.
func NewClock(floor ...time.Time) *Clock {
	c := &Clock{}
	c.Raise(buildTime())
	for _, t := range floor {
		c.Raise(t)
	}
	return c
}

// Now returns the later of the device's time and the floor.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if low := c.lowLocked(now); low.After(now) {
		return low
	}
	return now
}

// Raise lifts the floor to t and reports whether that changed it. It never lowers the floor. Raise
// it only to times that are known to be past: there is no way back but a restart.
func (c *Clock) Raise(t time.Time) (changed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if !t.After(c.lowLocked(now)) {
		return false
	}
	c.floor, c.set = t.Round(0), now
	return true
}

// firstYear is when ztm was written: a device that says it is earlier has no clock.
const firstYear = 2026

// Hint raises the floor to a time that somebody else claims, but only on a device whose own time is
// plainly wrong. One that has a clock believes its clock. limit is when the certificate ends that
// the device shows to others: a later claim is not believed, since it would make the device's own
// certificate look expired for as long as the claim is repeated. Either the claim is of a clock
// that is ahead, or it changes nothing.
func (c *Clock) Hint(t, limit time.Time) {
	if !t.Before(limit) {
		return
	}
	c.mu.Lock()
	now := time.Now()
	wrong := now.Before(c.lowLocked(now)) || now.Year() < firstYear
	c.mu.Unlock()
	if wrong {
		c.Raise(t)
	}
}

// maxFloorLead is how far a floor may lie beyond the beginning of the newest certificate: a clock
// that is ahead costs a device no more than these days.
const maxFloorLead = 7 * 24 * time.Hour

// Floor returns the time that a device keeps as the floor of its next start, and whether there is
// one. It is the rule of hubs and agents alike: a time is believed only if one's own certificate
// and that of a peer are good by it, and then up to some days after the newer of the two began. A
// clock that is years ahead finds no such certificates; one that is months ahead does, and the days
// are all it can win.
func Floor(now time.Time, own, peer Subject) (floor time.Time, ok bool) {
	newest := own.NotBefore
	for _, s := range []Subject{own, peer} {
		if checkDates(s.NotBefore, s.NotAfter, now) != nil {
			return time.Time{}, false
		}
		if s.NotBefore.After(newest) {
			newest = s.NotBefore
		}
	}
	if limit := newest.Add(maxFloorLead); now.After(limit) {
		return limit, true
	}
	return now, true
}

// lowLocked returns the floor as it has moved on until now.
func (c *Clock) lowLocked(now time.Time) time.Time {
	if c.floor.IsZero() {
		return time.Time{}
	}
	return c.floor.Add(now.Sub(c.set))
}

// buildTime returns the time of the commit that the binary was built from, or the zero time where
// it is not recorded.
func buildTime() time.Time {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return time.Time{}
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.time" {
			if t, err := time.Parse(time.RFC3339, s.Value); err == nil {
				return t
			}
		}
	}
	return time.Time{}
}
