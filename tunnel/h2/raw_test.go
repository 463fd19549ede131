package h2

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/net/http2/hpack"

	"ztm/tunnel/h2/wire"
)

// rawPeer is the other end of a connection, which says what a test wants, frame by frame. It
// answers SETTINGS and PING by itself; what else comes is in frames.
type rawPeer struct {
	t      testing.TB
	conn   net.Conn
	frames chan rawFrame // closed when nothing more comes
}

type rawFrame struct {
	wire.Frame
	payload []byte
}

// rawServer returns a client and the server that it speaks to.
func rawServer(t testing.TB, o Options) (*Conn, *rawPeer) {
	t.Helper()
	a, b := sockets(t)
	c := Client(a, o)
	if _, err := io.ReadFull(b, make([]byte, len(wire.Preface))); err != nil {
		t.Fatal(err)
	}
	return c, beginRaw(t, c, b)
}

// rawClient returns a server and the client that speaks to it.
func rawClient(t testing.TB, o Options) (*Conn, *rawPeer) {
	t.Helper()
	a, b := sockets(t)
	c := ServerConn(a, o)
	b.Write([]byte(wire.Preface))
	return c, beginRaw(t, c, b)
}

func beginRaw(t testing.TB, c *Conn, conn net.Conn) *rawPeer {
	p := &rawPeer{t: t, conn: conn, frames: make(chan rawFrame, 1<<16)}
	p.say(wire.AppendSettings(nil))
	go p.read() // ends with the connection
	t.Cleanup(func() {
		c.Close()
		conn.Close()
		c.Wait()
		for range p.frames { // until read has ended
		}
	})
	return p
}

func (p *rawPeer) read() {
	defer close(p.frames)
	var header [wire.HeaderSize]byte
	for {
		if _, err := io.ReadFull(p.conn, header[:]); err != nil {
			return
		}
		f := rawFrame{Frame: wire.Parse(&header)}
		f.payload = make([]byte, f.Length)
		if _, err := io.ReadFull(p.conn, f.payload); err != nil {
			return
		}
		switch {
		case f.Kind == wire.FramePing && !f.Has(wire.FlagAck):
			p.conn.Write(wire.AppendPing(nil, wire.FlagAck, [8]byte(f.payload)))
		case f.Kind == wire.FrameSettings && !f.Has(wire.FlagAck):
			p.conn.Write(wire.AppendHeader(nil, 0, wire.FrameSettings, wire.FlagAck, 0))
		default:
			p.frames <- f
		}
	}
}

// say writes frames. A connection that has ended meanwhile takes no more of them, which is no
// failure.
func (p *rawPeer) say(frames ...[]byte) { p.conn.Write(bytes.Join(frames, nil)) }

// next returns the next frame of a kind and skips others.
func (p *rawPeer) next(kind byte) rawFrame {
	p.t.Helper()
	late := time.After(timeout)
	for {
		select {
		case f, more := <-p.frames:
			if !more {
				p.t.Fatalf("the connection has ended, and no frame of type %d came", kind)
			}
			if f.Kind == kind {
				return f
			}
		case <-late:
			p.t.Fatalf("no frame of type %d", kind)
		}
	}
}

// section is a HEADERS frame.
func section(id uint32, flags byte, fields Fields) []byte {
	var block bytes.Buffer
	e := hpack.NewEncoder(&block)
	for _, f := range fields {
		e.WriteField(f)
	}
	return append(wire.AppendHeader(nil, block.Len(), wire.FrameHeaders, flags|wire.FlagEndHeaders, id), block.Bytes()...)
}

// data is a DATA frame.
func data(id uint32, flags byte, payload string) []byte {
	return append(wire.AppendHeader(nil, len(payload), wire.FrameData, flags, id), payload...)
}
