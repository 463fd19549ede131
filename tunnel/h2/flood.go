package h2

import (
	"time"

	"ztm/tunnel/h2/wire"
)

// What a peer can make us do without giving us anything for it is counted, and a peer that does
// much of it loses its connection:
//
//	a control frame, an empty DATA, a frame of an unknown type costs 1
//	a WINDOW_UPDATE costs 1 beyond one for each KiB that we have sent
//	a stream that the peer resets while its handler runs costs 2 (rapid reset, CVE-2023-44487); the handler counts as a stream until it returns
//	a stream that we have to reset for a fault of the peer costs 10 (the same by way of faults, CVE-2025-8671)
//
// A bucket of so many points fills by so many a second.
type flood struct {
	points  float64
	filled  time.Time
	updates int // WINDOW_UPDATE frames that what we have sent accounts for
	sent    int // bytes since the last whole KiB
}

const (
	mostPoints = 4000.0
	perSecond  = 1000.0
	mostFree   = 4096 // WINDOW_UPDATE frames in advance
)

func (f *flood) init() { f.points, f.filled, f.updates = mostPoints, time.Now(), 256 }

// sentLocked accounts for n bytes of DATA that we have sent.
func (f *flood) sentLocked(n int) {
	f.sent += n
	f.updates = min(f.updates+f.sent>>10, mostFree)
	f.sent &= 1<<10 - 1
}

// countLocked counts a frame.
func (c *Conn) countLocked(f wire.Frame) error {
	switch {
	case f.Kind == wire.FrameHeaders, f.Kind == wire.FrameData && (f.Length > 0 || f.Has(wire.FlagEndStream)):
		return nil
	case f.Kind == wire.FrameReset && c.streams[f.Stream] != nil:
		return nil // peerResetsLocked counts it
	case f.Kind == wire.FrameWindow && c.updates > 0:
		c.updates--
		return nil
	case f.Has(wire.FlagAck) && (f.Kind == wire.FramePing && c.pinging || f.Kind == wire.FrameSettings):
		return nil
	}
	return c.spendLocked(1)
}

// uselessFrame counts a DATA of padding alone.
func (c *Conn) uselessFrame() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.spendLocked(1)
}

func (c *Conn) peerResetsLocked(s *Stream) error {
	if s.serving {
		return c.spendLocked(2)
	}
	return nil
}

func (c *Conn) faultLocked() error { return c.spendLocked(10) }

func (c *Conn) spendLocked(n float64) error {
	if now := time.Now(); c.points < mostPoints {
		c.points = min(c.points+perSecond*now.Sub(c.filled).Seconds(), mostPoints)
		c.filled = now
	} else {
		c.filled = now
	}
	if c.points -= n; c.points < 0 {
		return wire.ConnError(wire.EnhanceYourCalm, "too many frames that bring nothing")
	}
	return nil
}
