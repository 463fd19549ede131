package h2

import (
	"ztm/tunnel/h2/flood"
	"ztm/tunnel/h2/wire"
)

// countLocked counts a frame that has come: see package flood. A handler counts as a stream until
// it returns, whatever becomes of the stream.
func (c *Conn) countLocked(f wire.Frame) error {
	switch {
	case f.Kind == wire.FrameHeaders, f.Kind == wire.FrameData && (f.Length > 0 || f.Has(wire.FlagEndStream)):
		return nil
	case f.Kind == wire.FrameReset && c.streams[f.Stream] != nil:
		return nil // peerResetLocked counts it
	case f.Kind == wire.FrameWindow && c.flood.Update():
		return nil
	case f.Has(wire.FlagAck) && (f.Kind == wire.FramePing && c.pinging || f.Kind == wire.FrameSettings):
		return nil
	}
	return c.spendLocked(flood.Useless)
}

func (c *Conn) spendLocked(n float64) error {
	if !c.flood.Spend(n) {
		return wire.ConnError(wire.EnhanceYourCalm, "too many frames that bring nothing")
	}
	return nil
}
