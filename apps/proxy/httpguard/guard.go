// Package httpguard stands between a client of HTTP and an HTTP server. It lets through only requests whose end every
// implementation sees at the same byte, and takes their targets aside as the client wrote them.
package httpguard

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"ztm/apps/listen"
	"ztm/tunnel/splice"
)

// Guard is the connection that the HTTP server gets. Nothing can be smuggled past those who read it next:
//
//  1. head     up to the empty line, whole or not at all; checked by [checkHead]
//  2. body     as many bytes as Content-Length says, or
//     chunks   size line, data, ... and the trailers, each checked
//  3. head     of the next request; after CONNECT, and after [Guard.Release], everything passes
//
// The target of a request that is to be forwarded is taken out of it (see targetField): net/http reads targets more
// strictly than origins do, and writes them anew.
//
// A request that is refused reaches the server as [refusedRequest], in its turn among pipelined requests, and is the
// last one of the connection.
//
// One goroutine at a time reads. The HTTP server interrupts a read by a deadline in the past: nothing is lost by that.
type Guard struct {
	net.Conn
	buf   []byte // read from the client
	open  int    // buf[:open] was checked and may pass
	state guardState
	left  int64     // bytes of the body, or of the chunk and its CRLF, that are still to come
	blank bool      // an empty line before the head was left out
	seen  int       // buf[open:open+seen] has no end of what state waits for
	since time.Time // when a head was first seen to be incomplete; zero if none is
	err   error     // ends the connection once buf[:open] has passed

	ended   atomic.Bool             // the client has ended its direction
	refused atomic.Pointer[Refusal] // the request that was not let through, nil if there is none
	spoiled atomic.Pointer[Refusal] // what was wrong with the body of the request before
	once    sync.Once
	closed  chan struct{} // closed by Close
}

// guardState is what comes next from the client.
type guardState int

const (
	atHead guardState = iota
	inBody
	atChunkSize
	inChunk
	atTrailers
	unguarded
)

// HeadTimeout is how long a head may take to arrive, once it has begun.
const HeadTimeout = 10 * time.Second

const (
	MaxHead      = 32 << 10 // bytes of a request line with its header fields, or of trailers
	maxFields    = 128
	maxChunkLine = 1 << 10 // bytes: a size and extensions
)

// Refusal is a request that is not let through.
type Refusal struct {
	Status int // of HTTP
	Reason string
}

func (r *Refusal) Error() string { return r.Reason }

func refusef(status int, format string, args ...any) *Refusal {
	return &Refusal{status, fmt.Sprintf(format, args...)}
}

// A request of RefusedMethod stands in for one that was refused. A client that sends it itself asks for nothing.
const (
	RefusedMethod  = "REFUSED"
	refusedRequest = RefusedMethod + " / HTTP/1.1\r\nHost: refused\r\nConnection: close\r\n\r\n"
)

// New makes a guard of a connection of which some bytes were read already.
func New(c net.Conn, read ...byte) *Guard {
	return &Guard{Conn: c, buf: read, closed: make(chan struct{})}
}

// Close closes the connection. It lets the client read why it was refused, before that.
func (g *Guard) Close() error {
	var err error
	g.once.Do(func() {
		if g.refused.Load() != nil || g.spoiled.Load() != nil {
			listen.Linger(g.Conn)
		}
		err = g.Conn.Close()
		close(g.closed)
	})
	return err
}

// Refused returns the request that was not let through, nil if there is none.
func (g *Guard) Refused() *Refusal { return g.refused.Load() }

// Spoiled returns what was wrong with the body of the last request, nil if nothing was.
func (g *Guard) Spoiled() *Refusal { return g.spoiled.Load() }

// Ended reports whether the client has ended its direction.
func (g *Guard) Ended() bool { return g.ended.Load() }

// Done is closed by Close.
func (g *Guard) Done() <-chan struct{} { return g.closed }

// CloseWrite ends the direction to the client.
func (g *Guard) CloseWrite() error {
	splice.CloseWrite(g.Conn)
	return nil
}

// Read passes on what was checked.
func (g *Guard) Read(p []byte) (int, error) {
	for {
		if g.open > 0 {
			return g.pass(p), nil
		}
		if g.err != nil {
			return 0, g.err
		}
		if len(g.buf) > 0 && g.check() {
			continue
		}
		if len(g.buf) == 0 && (g.state == inBody || g.state == inChunk && g.left > 2 || g.state == unguarded) {
			return g.readThrough(p)
		}
		if err := g.fill(); err != nil {
			return 0, err
		}
	}
}

func (g *Guard) pass(p []byte) int {
	n := copy(p, g.buf[:g.open])
	g.buf, g.open = g.buf[n:], g.open-n
	if len(g.buf) == 0 {
		g.buf = nil // an idle connection keeps no buffer
	}
	return n
}

// readThrough reads bytes that need no check.
func (g *Guard) readThrough(p []byte) (int, error) {
	if g.state == unguarded {
		return g.Conn.Read(p)
	}
	n, err := g.Conn.Read(p[:min(int64(len(p)), g.unchecked())])
	g.consume(int64(n))
	g.noteEnd(err)
	return n, err
}

// fill reads more from the client.
func (g *Guard) fill() error {
	const step = 4 << 10
	g.buf = slices.Grow(g.buf, step)
	n, err := g.Conn.Read(g.buf[len(g.buf) : len(g.buf)+step])
	g.buf = g.buf[:len(g.buf)+n]
	g.noteEnd(err)
	if n > 0 {
		return nil // an error comes again
	}
	if len(g.buf) == 0 {
		g.buf = nil
	}
	return err
}

func (g *Guard) noteEnd(err error) {
	if err == io.EOF {
		g.ended.Store(true)
	}
}

// check looks at g.buf, of which nothing may pass yet. It reports whether it got further.
func (g *Guard) check() bool {
	switch g.state {
	case atHead:
		return g.checkHead()
	case atChunkSize:
		return g.checkChunkSize()
	case atTrailers:
		return g.checkTrailers()
	case unguarded:
		g.open = len(g.buf)
	case inBody, inChunk:
		if g.unchecked() <= 0 {
			g.checkChunkEnd()
			break
		}
		g.open = int(min(g.unchecked(), int64(len(g.buf))))
		g.consume(int64(g.open))
	}
	return true
}

// unchecked returns how many bytes of the body or the chunk pass as they are: all but the CRLF after a chunk.
func (g *Guard) unchecked() int64 {
	if g.state == inChunk {
		return g.left - 2
	}
	return g.left
}

// consume counts bytes of the body or the chunk.
func (g *Guard) consume(n int64) {
	if g.left -= n; g.left > 0 {
		return
	}
	if g.state == inChunk {
		g.state = atChunkSize
	} else {
		g.state = atHead
	}
}

func (g *Guard) checkChunkEnd() {
	if g.buf[0] != "\r\n"[2-g.left] {
		g.spoil(refusef(400, "chunk is longer than its size"))
		return
	}
	g.open = 1
	g.left--
	g.consume(0)
}

func (g *Guard) checkHead() bool {
	if bytes.HasPrefix(g.buf, []byte("\r\n")) && !g.blank {
		// "a server that is expecting to receive and parse a request-line SHOULD ignore at least one empty line"
		// (RFC 9112 section 2.2)
		g.buf, g.blank = g.buf[2:], true
		return true
	}
	n, err := g.block(MaxHead)
	if err == nil && n == 0 {
		return g.tooSlow()
	}
	var f framing
	if err == nil {
		f, err = checkHead(g.buf[:n])
	}
	if err != nil {
		g.refused.Store(err)
		g.buf, g.err, n = []byte(refusedRequest), io.EOF, len(refusedRequest)
	} else if head := withTarget(g.buf[:n]); head != nil {
		g.buf, n = append(head, g.buf[n:]...), len(head)
	}
	g.open, g.since, g.blank = n, time.Time{}, false
	g.state, g.left = f.next, f.length
	return true
}

// tooSlow ends a connection that sends its header drop by drop. One that sends nothing more meets the deadlines of the
// server.
func (g *Guard) tooSlow() bool {
	if g.since.IsZero() {
		g.since = time.Now()
	}
	if time.Since(g.since) > HeadTimeout {
		g.err = refusef(408, "header came too slowly")
	}
	return g.err != nil
}

func (g *Guard) checkChunkSize() bool {
	n, err := g.line(maxChunkLine)
	if err == nil && n == 0 {
		return false
	}
	var size int64
	if err == nil {
		size, err = chunkSize(g.buf[:n-2])
	}
	if err != nil {
		return g.spoil(err)
	}
	g.open = n
	if g.state, g.left = inChunk, size+2; size == 0 {
		g.state = atTrailers
	}
	return true
}

// spoil ends the connection because of a body.
func (g *Guard) spoil(r *Refusal) bool {
	g.spoiled.Store(r)
	g.err = r
	return true
}

func (g *Guard) checkTrailers() bool {
	if bytes.HasPrefix(g.buf, []byte("\r\n")) {
		g.open, g.state = 2, atHead
		return true
	}
	n, err := g.block(MaxHead)
	if err == nil && n == 0 {
		return false
	}
	if err == nil {
		err = checkTrailers(g.buf[:n])
	}
	if err != nil {
		return g.spoil(err)
	}
	g.open, g.state = n, atHead
	return true
}

// line returns the length of the first line, CRLF included, or 0 if its end is not here yet.
func (g *Guard) line(most int) (int, *Refusal) {
	i := bytes.IndexByte(g.buf, '\n')
	switch {
	case i > most || i < 0 && len(g.buf) > most:
		return 0, refusef(400, "chunk size line is longer than %d bytes", most)
	case i < 0:
		return 0, nil
	case i == 0 || g.buf[i-1] != '\r':
		return 0, refusef(400, "line ends without CR")
	}
	return i + 1, nil
}

// block returns the length of the first lines up to and with an empty one, or 0 if that is not here yet.
func (g *Guard) block(most int) (int, *Refusal) {
	for {
		i := bytes.IndexByte(g.buf[g.seen:], '\n')
		end := g.seen + i + 1
		switch {
		case i < 0 && len(g.buf) <= most:
			return 0, nil
		case i < 0 || end > most:
			return 0, refusef(431, "header is longer than %d bytes", most)
		case end < 2 || g.buf[end-2] != '\r':
			return 0, refusef(400, "line ends without CR")
		}
		empty := i == 1
		if g.seen = end; empty {
			g.seen = 0
			return end, nil
		}
	}
}

// Release lets everything pass from now on. It is called after the server gave the connection away.
func (g *Guard) Release() { g.state, g.err = unguarded, nil }

// Remainder returns what was read from the client and not passed on. It is called after Release.
func (g *Guard) Remainder() []byte {
	b := g.buf
	g.buf, g.open = nil, 0
	return b
}
