package h2

import (
	"encoding/binary"
	"io"
	"strconv"

	"ztm/tunnel/h2/wire"
)

// Field sections:
//
//	HEADERS, CONTINUATION -> fragment: decoded as it comes, within limits -> section: to its stream
//	                                                                      -> serve: a request of the peer
//
// A section is decoded also where its stream is refused or gone, because the decoder has a state.

// block is the field section that is being read.
type block struct {
	stream *Stream // nil: of a stream that is refused or gone
	id     uint32  // 0: none is being read
	end    bool
	kind   wire.Section
	frames int
	bytes  int
	refuse error
}

// maxBlocks is how many frames a field section may have.
const maxBlocks = 8

// headers reads a HEADERS frame.
func (c *Conn) headers(f wire.Frame) error {
	if f.Stream == 0 {
		return wire.ConnError(wire.ProtocolError, "HEADERS on stream 0")
	}
	n, pad, err := c.padding(f)
	if err != nil {
		return err
	}
	if f.Has(wire.FlagPriority) {
		if n -= 5; n < 0 {
			return wire.ConnError(wire.FrameSizeError, "HEADERS too short for its priority")
		}
		var p [5]byte
		if _, err := io.ReadFull(c.rw, p[:]); err != nil {
			return err
		}
		if binary.BigEndian.Uint32(p[:])&wire.MaxWindow == f.Stream {
			return wire.ConnError(wire.ProtocolError, "a stream that depends on itself")
		}
	}
	c.mu.Lock()
	c.block = block{id: f.Stream, end: f.Has(wire.FlagEndStream)}
	err = c.beginBlockLocked(f)
	c.mu.Unlock()
	if err != nil {
		return err
	}
	if err := c.fragment(n, f.Has(wire.FlagEndHeaders)); err != nil {
		return err
	}
	return discard(c.rw, pad)
}

// beginBlockLocked finds out what a field section is about.
func (c *Conn) beginBlockLocked(f wire.Frame) error {
	s := c.streams[f.Stream]
	switch {
	case s != nil && s.remoteEnd:
		return wire.ConnError(wire.StreamClosed, "HEADERS on a stream that has ended")
	case s != nil && s.fields == nil:
		c.block.stream, c.block.kind = s, wire.Response
	case s != nil:
		c.block.stream, c.block.kind = s, wire.Trailers
		if !f.Has(wire.FlagEndStream) {
			c.block.refuse = wire.StreamError(wire.ProtocolError, "trailers without an end")
		}
	case c.wasResetLocked(f.Stream):
		c.block.kind = wire.Trailers
		c.block.refuse = errSkip
	case c.ours(f.Stream):
		if c.idleLocked(f.Stream) {
			return wire.ConnError(wire.ProtocolError, "HEADERS on an idle stream")
		}
		return wire.ConnError(wire.StreamClosed, "HEADERS on a stream that has ended")
	case !c.idleLocked(f.Stream):
		return wire.ConnError(wire.StreamClosed, "HEADERS on a stream that has ended")
	default:
		return c.beginStreamLocked(f)
	}
	return nil
}

// errSkip is for a field section that is read because the decoder has to, and thrown away.
var errSkip = wire.StreamError(wire.NoError, "skipped")

// beginStreamLocked makes a stream that the peer opens.
func (c *Conn) beginStreamLocked(f wire.Frame) error {
	if c.client {
		return wire.ConnError(wire.ProtocolError, "the server opens a stream")
	}
	c.last = f.Stream
	c.block.kind = wire.Request
	switch {
	case c.leaving:
		c.block.refuse = errSkip
	case c.theirs >= c.o.MaxStreams || c.o.Handler == nil:
		c.block.refuse = wire.StreamError(wire.RefusedStream, "too many streams")
	default:
		s := c.newStream(f.Stream)
		s.sendWindow = c.initial
		s.recvWindow.beginLocked(c, false)
		c.streams[f.Stream] = s
		c.theirs++
		c.block.stream = s
	}
	return nil
}

func (c *Conn) continuation(f wire.Frame) error {
	if c.block.id == 0 {
		return wire.ConnError(wire.ProtocolError, "CONTINUATION without HEADERS")
	}
	return c.fragment(f.Length, f.Has(wire.FlagEndHeaders))
}

// fragment reads a piece of a field section.
func (c *Conn) fragment(n int, end bool) error {
	c.block.frames++
	c.block.bytes += n
	if c.block.frames > maxBlocks || c.block.bytes > wire.MaxFields {
		return wire.ConnError(wire.EnhanceYourCalm, "a field section of more than %d bytes or %d frames", wire.MaxFields, maxBlocks)
	}
	piece := chunks.Get(0)
	defer chunks.Put(piece)
	for n > 0 {
		m, err := io.ReadFull(c.rw, (*piece)[:min(n, len(*piece))])
		if err != nil {
			return err
		}
		if err := c.decoder.Write((*piece)[:m]); err != nil {
			return err
		}
		n -= m
	}
	if !end {
		return nil
	}
	list, tooLarge, err := c.decoder.Finish()
	if err != nil {
		return err
	}
	b := c.block
	c.block = block{}
	if tooLarge && b.refuse == nil {
		b.refuse = wire.StreamError(wire.ProtocolError, "more than %d bytes of fields", wire.MaxFields)
	}
	return c.section(b, list)
}

// section gives a field section to its stream.
func (c *Conn) section(b block, list Fields) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return c.err // no handler begins once the connection is over: Wait may count them already
	}
	if b.refuse == nil {
		b.refuse = list.Check(b.kind)
	}
	switch {
	case b.refuse == errSkip:
		return nil
	case b.refuse != nil:
		return c.refuseLocked(b.id, b.refuse.(*Error))
	}
	s := b.stream
	if b.kind == wire.Response && list.Get(":status")[0] == '1' && !b.end {
		return nil // an interim answer (RFC 9110 section 15.2)
	}
	if b.kind == wire.Trailers {
		s.trailer = list
	} else {
		s.fields = list
		if l, err := strconv.ParseInt(list.Get("content-length"), 10, 64); err == nil && l >= 0 && (b.kind == wire.Request || !b.end) {
			s.length = l
		}
	}
	if b.end {
		if err := s.endOfDataLocked(wire.Frame{Flags: wire.FlagEndStream}); err != nil {
			return c.refuseLocked(b.id, err.(*Error))
		}
	}
	s.readable.Broadcast()
	if b.kind == wire.Request {
		c.serveLocked(s)
	}
	return nil
}
