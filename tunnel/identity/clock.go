package identity

import (
	"runtime/debug"
	"sync"
	"time"
)

// Clock is the time certificates are judged by: that of the device, but never before a floor. A router without a
// battery boots in 1970; the floor (when the binary was built, when the device last ran, when the trust list was
// issued, see [Verifier.Set]) keeps its certificates from looking like the future's. The floor moves on with the time
// the process runs. All methods may be called from any goroutine.
type Clock struct {
	mu    sync.Mutex
	floor time.Time // zero: none
	set   time.Time // when the floor was set, by the device's monotonic clock
}

// NewClock makes a clock whose floor is the latest of the given times and, where the binary knows it, of the time of
// the commit it was built from.
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

// Raise lifts the floor to t and reports whether that changed it. It never lowers the floor. Raise it only to times
// that are known to be past: there is no way back but a restart.
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

// hint raises the floor to a time that somebody else claims, but only on a device whose own time is plainly wrong. One
// that has a clock believes the clock: the other's may be years ahead, and must not take everybody there.
func (c *Clock) hint(t time.Time) {
	c.mu.Lock()
	now := time.Now()
	wrong := now.Before(c.lowLocked(now)) || now.Year() < firstYear
	c.mu.Unlock()
	if wrong {
		c.Raise(t)
	}
}

// lowLocked returns the floor as it has moved on until now.
func (c *Clock) lowLocked(now time.Time) time.Time {
	if c.floor.IsZero() {
		return time.Time{}
	}
	return c.floor.Add(now.Sub(c.set))
}

// buildTime returns the time of the commit that the binary was built from, or the zero time where it is not recorded.
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
