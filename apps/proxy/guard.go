package proxy

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// guard stands between a client and the HTTP server. It lets through only requests whose end every HTTP
// implementation sees at the same byte, so that nothing can be smuggled past whoever reads them next:
//
//  1. head     up to the empty line, whole or not at all; checked by [checkHead]
//  2. body     as many bytes as Content-Length says, or
//     chunks   size line, data, ... and the trailers, each checked
//  3. head     of the next request; after CONNECT, and after [guard.release], everything passes
//
// The target of a request that is to be forwarded is taken out of it (see targetField): net/http reads targets more
// strictly than origins do, and writes them anew.
//
// A request that is refused reaches the server as [refusedRequest], in its turn among pipelined requests, and is the
// last one of the connection.
//
// One goroutine at a time reads. The HTTP server interrupts a read by a deadline in the past: nothing is lost by that.
type guard struct {
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
	refused atomic.Pointer[refusal] // the request that was not let through, nil if there is none
	spoiled atomic.Pointer[refusal] // what was wrong with the body of the request before
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

const (
	maxHead      = 32 << 10 // bytes of a request line with its header fields, or of trailers
	maxFields    = 128
	maxChunkLine = 1 << 10 // bytes: a size and extensions
)

// refusal is a request that is not let through.
type refusal struct {
	status int
	reason string
}

func (r *refusal) Error() string { return r.reason }

func refusef(status int, format string, args ...any) *refusal {
	return &refusal{status, fmt.Sprintf(format, args...)}
}

// refusedRequest stands in for a request that was refused. A client that sends it itself asks for nothing.
const (
	refusedMethod  = "REFUSED"
	refusedRequest = refusedMethod + " / HTTP/1.1\r\nHost: refused\r\nConnection: close\r\n\r\n"
)

// newGuard makes a guard of a connection of which some bytes were read already.
func newGuard(c net.Conn, read ...byte) *guard {
	return &guard{Conn: c, buf: read, closed: make(chan struct{})}
}

// Close closes the connection. It lets the client read why it was refused, before that.
func (g *guard) Close() error {
	var err error
	g.once.Do(func() {
		if g.refused.Load() != nil || g.spoiled.Load() != nil {
			lingeringClose(g.Conn)
		}
		err = g.Conn.Close()
		close(g.closed)
	})
	return err
}

// CloseWrite ends the direction to the client.
func (g *guard) CloseWrite() error {
	endWrite(g.Conn)
	return nil
}

// Read passes on what was checked.
func (g *guard) Read(p []byte) (int, error) {
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

func (g *guard) pass(p []byte) int {
	n := copy(p, g.buf[:g.open])
	g.buf, g.open = g.buf[n:], g.open-n
	if len(g.buf) == 0 {
		g.buf = nil // an idle connection keeps no buffer
	}
	return n
}

// readThrough reads bytes that need no check.
func (g *guard) readThrough(p []byte) (int, error) {
	if g.state == unguarded {
		return g.Conn.Read(p)
	}
	n, err := g.Conn.Read(p[:min(int64(len(p)), g.unchecked())])
	g.consume(int64(n))
	g.noteEnd(err)
	return n, err
}

// fill reads more from the client.
func (g *guard) fill() error {
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

func (g *guard) noteEnd(err error) {
	if err == io.EOF {
		g.ended.Store(true)
	}
}

// check looks at g.buf, of which nothing may pass yet. It reports whether it got further.
func (g *guard) check() bool {
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
func (g *guard) unchecked() int64 {
	if g.state == inChunk {
		return g.left - 2
	}
	return g.left
}

// consume counts bytes of the body or the chunk.
func (g *guard) consume(n int64) {
	if g.left -= n; g.left > 0 {
		return
	}
	if g.state == inChunk {
		g.state = atChunkSize
	} else {
		g.state = atHead
	}
}

func (g *guard) checkChunkEnd() {
	if g.buf[0] != "\r\n"[2-g.left] {
		g.spoil(refusef(400, "chunk is longer than its size"))
		return
	}
	g.open = 1
	g.left--
	g.consume(0)
}

func (g *guard) checkHead() bool {
	if bytes.HasPrefix(g.buf, []byte("\r\n")) && !g.blank {
		// "a server that is expecting to receive and parse a request-line SHOULD ignore at least one empty line"
		// (RFC 9112 section 2.2)
		g.buf, g.blank = g.buf[2:], true
		return true
	}
	n, err := g.block(maxHead)
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
func (g *guard) tooSlow() bool {
	if g.since.IsZero() {
		g.since = time.Now()
	}
	if time.Since(g.since) > handshakeTimeout {
		g.err = refusef(408, "header came too slowly")
	}
	return g.err != nil
}

func (g *guard) checkChunkSize() bool {
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
func (g *guard) spoil(r *refusal) bool {
	g.spoiled.Store(r)
	g.err = r
	return true
}

func (g *guard) checkTrailers() bool {
	if bytes.HasPrefix(g.buf, []byte("\r\n")) {
		g.open, g.state = 2, atHead
		return true
	}
	n, err := g.block(maxHead)
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
func (g *guard) line(most int) (int, *refusal) {
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
func (g *guard) block(most int) (int, *refusal) {
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

// release lets everything pass from now on. It is called after the server gave the connection away.
func (g *guard) release() { g.state, g.err = unguarded, nil }

// remainder returns what was read from the client and not passed on. It is called after release.
func (g *guard) remainder() []byte {
	b := g.buf
	g.buf, g.open = nil, 0
	return b
}

// framing says where a request ends.
type framing struct {
	next   guardState
	length int64
}

// checkHead checks a request line and header fields, with the empty line at the end.
func checkHead(head []byte) (framing, *refusal) {
	line, fields, _ := strings.Cut(string(head), "\r\n")
	method, version, err := checkRequestLine(line)
	if err != nil {
		return framing{}, err
	}
	var length, coding string
	seen := map[string]int{}
	err = eachField(fields, func(name, value string) *refusal {
		switch seen[name]++; name {
		case "content-length":
			length = value
		case "transfer-encoding":
			coding = value
		case "host":
		default:
			return nil
		}
		if seen[name] > 1 {
			return refusef(400, "more than one %s", name)
		}
		return nil
	})
	if err != nil {
		return framing{}, err
	}
	return frame(method, version, seen, length, coding)
}

// frame decides how long the body is, by the strictest reading of RFC 9112 section 6.
func frame(method, version string, seen map[string]int, length, coding string) (framing, *refusal) {
	hasLength, hasCoding := seen["content-length"] > 0, seen["transfer-encoding"] > 0
	switch {
	case hasLength && hasCoding:
		return framing{}, refusef(400, "both content-length and transfer-encoding")
	case method == "CONNECT" && (hasCoding || hasLength && length != "0"):
		return framing{}, refusef(400, "CONNECT with a body")
	case method == "CONNECT":
		return framing{next: unguarded}, nil
	case hasCoding && version == "HTTP/1.0":
		return framing{}, refusef(400, "transfer-encoding in HTTP/1.0")
	case hasCoding && !strings.EqualFold(coding, "chunked"):
		return framing{}, refusef(501, "transfer-encoding is not chunked")
	case hasCoding:
		return framing{next: atChunkSize}, nil
	case !hasLength:
		return framing{next: atHead}, nil
	}
	n, err := strconv.ParseInt(length, 10, 64)
	if err != nil || strings.Trim(length, "0123456789") != "" {
		return framing{}, refusef(400, "content-length is not a number")
	}
	if n == 0 {
		return framing{next: atHead}, nil
	}
	return framing{next: inBody, length: n}, nil
}

func checkRequestLine(line string) (method, version string, err *refusal) {
	method, rest, _ := strings.Cut(line, " ")
	target, version, ok := strings.Cut(rest, " ")
	if !ok || !isToken(method) || target == "" {
		return "", "", refusef(400, "malformed request line")
	}
	for _, c := range []byte(target) {
		if c <= ' ' || c == 0x7f {
			return "", "", refusef(400, "forbidden character in the request line")
		}
	}
	if version != "HTTP/1.1" && version != "HTTP/1.0" {
		return "", "", refusef(505, "want HTTP/1.1 or HTTP/1.0")
	}
	return method, version, nil
}

// eachField calls f for each header field, with its name in lower case.
func eachField(fields string, f func(name, value string) *refusal) *refusal {
	for n := 0; ; n++ {
		line, rest, ok := strings.Cut(fields, "\r\n")
		if !ok || line == "" {
			return nil
		}
		if fields = rest; n == maxFields {
			return refusef(431, "more than %d header fields", maxFields)
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok || !isToken(name) { // a folded line, or a space before the colon, among others
			return refusef(400, "malformed header field")
		}
		for _, c := range []byte(value) {
			if c < ' ' && c != '\t' || c == 0x7f {
				return refusef(400, "forbidden character in a header field")
			}
		}
		if err := f(strings.ToLower(name), strings.Trim(value, " \t")); err != nil {
			return err
		}
	}
}

func checkTrailers(block []byte) *refusal {
	return eachField(string(block), func(name, _ string) *refusal {
		switch name {
		case "content-length", "transfer-encoding", "host", "trailer", "connection", "upgrade", "proxy-authorization":
			return refusef(400, "%s as a trailer", name)
		}
		return nil
	})
}

// chunkSize reads a size line without its CRLF: hexadecimal digits, and extensions, which are passed on.
func chunkSize(line []byte) (int64, *refusal) {
	size, extensions, _ := strings.Cut(string(line), ";")
	for _, c := range []byte(extensions) {
		if c < ' ' && c != '\t' || c == 0x7f {
			return 0, refusef(400, "forbidden character in a chunk extension")
		}
	}
	if size == "" || len(size) > 15 || strings.Trim(size, "0123456789abcdefABCDEF") != "" {
		return 0, refusef(400, "malformed chunk size")
	}
	n, _ := strconv.ParseInt(size, 16, 64) // 15 digits fit
	return n, nil
}

// isToken is RFC 9110 section 5.6.2.
func isToken(s string) bool {
	for _, c := range []byte(s) {
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0) {
			return false
		}
	}
	return s != ""
}
