// Package flood counts what a peer makes us do without giving us anything for it. A peer that does
// much of it loses its connection:
//
//	a control frame, an empty DATA, a frame of an unknown type costs 1
//	a WINDOW_UPDATE costs 1 beyond one for each KiB that we have sent
//	a stream that the peer resets while its handler runs costs 2 (rapid reset, CVE-2023-44487)
//	a stream that we have to reset for a fault of the peer costs 10 (CVE-2025-8671)
//
// A bucket of so many points fills by so many a second.
package flood

import "time"

// What things cost, in points.
const (
	Useless = 1  // a frame that brings nothing
	Reset   = 2  // of a stream whose handler runs
	Fault   = 10 // of the peer, for which a stream is reset here
)

const (
	most      = 4000.0
	perSecond = 1000.0
	mostFree  = 4096 // WINDOW_UPDATE frames in advance
)

// Counter is the bucket of one connection. Make it with [New]. It is not safe for concurrent use.
type Counter struct {
	points  float64
	filled  time.Time
	updates int // WINDOW_UPDATE frames that what we have sent accounts for
	sent    int // bytes since the last whole KiB
}

// New makes a full bucket.
func New() Counter { return Counter{points: most, filled: time.Now(), updates: 256} }

// Sent accounts for n bytes of DATA that we have sent.
func (c *Counter) Sent(n int) {
	c.sent += n
	c.updates = min(c.updates+c.sent>>10, mostFree)
	c.sent &= 1<<10 - 1
}

// Update reports whether a WINDOW_UPDATE is accounted for.
func (c *Counter) Update() bool {
	if c.updates == 0 {
		return false
	}
	c.updates--
	return true
}

// Spend takes points, and reports whether there were enough.
func (c *Counter) Spend(n float64) bool {
	now := time.Now()
	c.points = min(c.points+perSecond*now.Sub(c.filled).Seconds(), most)
	c.filled = now
	c.points -= n
	return c.points >= 0
}
