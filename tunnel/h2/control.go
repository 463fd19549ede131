package h2

import (
	"encoding/binary"
	"io"

	"ztm/tunnel/h2/flood"
	"ztm/tunnel/h2/wire"
)

// What frames say that carry neither data nor fields.

// control reads a frame of the other types.
func (c *Conn) control(f wire.Frame) error {
	wanted := map[byte]int{wire.FramePriority: 5, wire.FrameReset: 4, wire.FramePing: 8, wire.FrameWindow: 4}
	if n, ok := wanted[f.Kind]; ok && f.Length != n {
		if f.Kind == wire.FramePriority {
			if err := discard(c.rw, f.Length); err != nil {
				return err
			}
			return wire.StreamError(wire.FrameSizeError, "PRIORITY of %d bytes", f.Length)
		}
		return wire.ConnError(wire.FrameSizeError, "a frame of type %d with %d bytes", f.Kind, f.Length)
	}
	switch f.Kind {
	case wire.FrameSettings:
		return c.readSettings(f)
	case wire.FrameGoAway:
		return c.goAway(f)
	case wire.FramePushPromise:
		return wire.ConnError(wire.ProtocolError, "PUSH_PROMISE")
	case wire.FramePriority, wire.FrameReset, wire.FramePing, wire.FrameWindow:
		var b [8]byte
		if _, err := io.ReadFull(c.rw, b[:f.Length]); err != nil {
			return err
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.smallLocked(f, b)
	}
	return discard(c.rw, f.Length) // unknown types are skipped (RFC 9113 section 5.5)
}

// smallLocked does what a frame of a few bytes says.
func (c *Conn) smallLocked(f wire.Frame, b [8]byte) error {
	value := binary.BigEndian.Uint32(b[:])
	switch f.Kind {
	case wire.FramePriority:
		if f.Stream == 0 {
			return wire.ConnError(wire.ProtocolError, "PRIORITY on stream 0")
		}
		if value&wire.MaxWindow == f.Stream {
			return wire.StreamError(wire.ProtocolError, "a stream that depends on itself")
		}
		return nil
	case wire.FrameReset:
		return c.peerResetLocked(f.Stream, Code(value))
	case wire.FramePing:
		if f.Stream != 0 {
			return wire.ConnError(wire.ProtocolError, "PING on stream %d", f.Stream)
		}
		if f.Has(wire.FlagAck) {
			c.pongLocked(b)
			return nil
		}
		c.pending = wire.AppendPing(c.pending, wire.FlagAck, b)
		c.flushSoonLocked()
		return nil
	}
	return c.windowUpdateLocked(f.Stream, int64(value&wire.MaxWindow))
}

// peerResetLocked does what RST_STREAM says.
func (c *Conn) peerResetLocked(id uint32, code Code) error {
	if id == 0 || c.idleLocked(id) {
		return wire.ConnError(wire.ProtocolError, "RST_STREAM on stream %d", id)
	}
	s := c.streams[id]
	if s == nil {
		return nil
	}
	if s.serving || s.kept {
		if err := c.spendLocked(flood.Reset); err != nil {
			return err
		}
	}
	if code == wire.NoError && s.remoteEnd { // the peer has said all and wants no more (RFC 9113 section 8.1)
		s.ended, s.unwanted = true, true
		s.settleLocked()
		s.writable.Broadcast()
		return nil
	}
	s.dropLocked()
	s.failLocked(&Error{Code: code, Remote: true, Stream: true})
	return nil
}

func (c *Conn) windowUpdateLocked(id uint32, n int64) error {
	if id == 0 {
		if n == 0 {
			return wire.ConnError(wire.ProtocolError, "an increment of 0")
		}
		if c.sendWindow += n; c.sendWindow > wire.MaxWindow {
			return wire.ConnError(wire.FlowControlError, "the window of the connection overflows")
		}
		c.feedLocked()
		return nil
	}
	s := c.streams[id]
	switch {
	case s == nil && c.idleLocked(id):
		return wire.ConnError(wire.ProtocolError, "WINDOW_UPDATE on an idle stream")
	case n == 0:
		return wire.StreamError(wire.ProtocolError, "an increment of 0")
	case s == nil:
		return nil
	}
	if s.sendWindow += n; s.sendWindow > wire.MaxWindow {
		return wire.StreamError(wire.FlowControlError, "the window of the stream overflows")
	}
	s.writable.Signal()
	return nil
}

// readSettings reads SETTINGS.
func (c *Conn) readSettings(f wire.Frame) error {
	switch {
	case f.Stream != 0:
		return wire.ConnError(wire.ProtocolError, "SETTINGS on stream %d", f.Stream)
	case f.Has(wire.FlagAck) && f.Length != 0, f.Length%6 != 0:
		return wire.ConnError(wire.FrameSizeError, "SETTINGS of %d bytes", f.Length)
	case f.Has(wire.FlagAck):
		c.mu.Lock()
		defer c.mu.Unlock()
		c.settledLocked()
		return nil
	case f.Length > 6*64:
		return wire.ConnError(wire.EnhanceYourCalm, "%d settings", f.Length/6)
	}
	c.started = true
	for range f.Length / 6 {
		var b [6]byte
		if _, err := io.ReadFull(c.rw, b[:]); err != nil {
			return err
		}
		c.mu.Lock()
		err := c.settingLocked(binary.BigEndian.Uint16(b[:]), binary.BigEndian.Uint32(b[2:]))
		c.mu.Unlock()
		if err != nil {
			return err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pending = wire.AppendHeader(c.pending, 0, wire.FrameSettings, wire.FlagAck, 0)
	c.flushSoonLocked()
	return nil
}

// settingLocked does what one wire.Setting of the peer says. Unknown ones are skipped.
func (c *Conn) settingLocked(id uint16, value uint32) error {
	switch id {
	case wire.SettingEnablePush:
		if value > 1 || c.client && value == 1 {
			return wire.ConnError(wire.ProtocolError, "ENABLE_PUSH is %d", value)
		}
	case wire.SettingMaxStreams:
		c.peerMax = int(min(value, 1<<20))
	case wire.SettingMaxFrame:
		if value < wire.LeastFrame || value > 1<<24-1 {
			return wire.ConnError(wire.ProtocolError, "MAX_FRAME_SIZE is %d", value)
		}
		c.maxFrame = int(value)
	case wire.SettingInitialWindow:
		if value > wire.MaxWindow {
			return wire.ConnError(wire.FlowControlError, "INITIAL_WINDOW_SIZE is %d", value)
		}
		change := int64(value) - c.initial
		c.initial = int64(value)
		for _, s := range c.streams {
			if s.sendWindow += change; s.sendWindow > wire.MaxWindow {
				return wire.ConnError(wire.FlowControlError, "the window of a stream overflows")
			}
			s.writable.Signal()
		}
	}
	return nil
}

// goAway reads GOAWAY: the peer takes no more streams, and those above its last one it has not
// seen.
func (c *Conn) goAway(f wire.Frame) error {
	if f.Stream != 0 || f.Length < 8 {
		return wire.ConnError(wire.ProtocolError, "GOAWAY on stream %d with %d bytes", f.Stream, f.Length)
	}
	var b [8]byte
	if _, err := io.ReadFull(c.rw, b[:]); err != nil {
		return err
	}
	if err := discard(c.rw, f.Length-8); err != nil {
		return err
	}
	last, code := binary.BigEndian.Uint32(b[:])&wire.MaxWindow, Code(binary.BigEndian.Uint32(b[4:]))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leaving = true
	for id, s := range c.streams {
		if c.ours(id) && id > last {
			s.failLocked(&Error{Code: wire.RefusedStream, Remote: true, Stream: true})
		}
	}
	if code != wire.NoError {
		return &Error{Code: code, Remote: true}
	}
	return nil
}

// discard skips n bytes.
func discard(r io.Reader, n int) error {
	if n <= 0 {
		return nil
	}
	_, err := io.CopyN(io.Discard, r, int64(n))
	return err
}
