// Package websocket is the server's side of RFC 6455, for messages of a browser on this machine:
//
//	GET, Upgrade: websocket  -> Accept -> 101 -> Conn
//	frame: | FIN, opcode | MASK, length | length 16 or 64 bits | mask, 4 bytes | payload |
//
// It has no extensions. It decides nothing: who may connect has been checked before [Accept].
package websocket

import (
	"bufio"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// Kind is what a message is of.
type Kind uint8

// The kinds of messages.
const (
	Text   Kind = 1
	Binary Kind = 2
)

const (
	opMore  = 0x0
	opClose = 0x8
	opPing  = 0x9
	opPong  = 0xa

	final      = 0x80
	reserved   = 0x70
	masked     = 0x80
	maxControl = 125 // bytes of payload, RFC 6455 section 5.5

	pingEvery    = 25 * time.Second // shorter than what proxies and tunnels cut off
	readTimeout  = 75 * time.Second // without a frame of the browser, which answers pings by itself
	writeTimeout = 30 * time.Second // for a browser that does not read
)

// MaxMessage is the longest message that is read, in bytes.
const MaxMessage = 1 << 20

// Codes of a close frame, RFC 6455 section 7.4.1.
const (
	normal   = 1000
	mistaken = 1002
	notText  = 1007
	tooBig   = 1009
)

// protocolError is a frame that no browser sends.
type protocolError struct {
	code uint16
	text string
}

func (e *protocolError) Error() string { return "websocket: " + e.text }

// Conn is a connection of messages. One goroutine may read; any may write and close.
type Conn struct {
	conn net.Conn
	r    *bufio.Reader
	buf  []byte // of the message that was read last; owned by the reader
	stop chan struct{}
	once sync.Once

	mu  sync.Mutex
	out []byte // guarded by mu; one frame, so that it leaves in one write
	err error  // guarded by mu; why nothing more is written
}

// Requested reports whether a request asks for a connection.
func Requested(r *http.Request) bool {
	return r.Method == http.MethodGet && hasToken(r.Header.Values("Upgrade"), "websocket") && hasToken(r.Header.Values("Connection"), "upgrade")
}

// Protocols are the subprotocols that a request offers.
func Protocols(r *http.Request) (all []string) {
	for _, line := range r.Header.Values("Sec-Websocket-Protocol") {
		for p := range strings.SplitSeq(line, ",") {
			all = append(all, strings.TrimSpace(p))
		}
	}
	return all
}

// hasToken looks for a word in lists separated by commas, in any case.
func hasToken(lines []string, word string) bool {
	for _, line := range lines {
		for t := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(t), word) {
				return true
			}
		}
	}
	return false
}

// Accept answers a request, of which [Requested] reports true, with the subprotocol that was chosen
// of those offered, and pings the browser until the connection is closed.
func Accept(w http.ResponseWriter, r *http.Request, protocol string) (*Conn, error) {
	key, err := base64.StdEncoding.DecodeString(r.Header.Get("Sec-Websocket-Key"))
	if err != nil || len(key) != 16 || r.Header.Get("Sec-Websocket-Version") != "13" {
		http.Error(w, "not a WebSocket of version 13", http.StatusBadRequest)
		return nil, errors.New("websocket: not of version 13")
	}
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, err
	}
	conn.SetDeadline(time.Now().Add(writeTimeout)) // the server's own are void now
	fmt.Fprintf(rw, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\nSec-WebSocket-Protocol: %s\r\n\r\n",
		proof(r.Header.Get("Sec-Websocket-Key")), protocol)
	if err := rw.Flush(); err != nil {
		conn.Close()
		return nil, err
	}
	conn.SetDeadline(time.Time{})
	c := &Conn{conn: conn, r: rw.Reader, stop: make(chan struct{})}
	go c.ping() // ends with Close
	return c, nil
}

// proof shows that a server of WebSockets has read the key, RFC 6455 section 4.2.2.
func proof(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

func (c *Conn) ping() {
	tick := time.NewTicker(pingEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if c.write(opPing, nil) != nil {
				return
			}
		case <-c.stop:
			return
		}
	}
}

// Read reads a message. It is valid until the following call. io.EOF is the end that the browser has
// set; after any error the connection is of no more use but for Close.
func (c *Conn) Read() (Kind, []byte, error) {
	k, p, err := c.read()
	var bad *protocolError
	if errors.As(err, &bad) {
		c.write(opClose, binary.BigEndian.AppendUint16(nil, bad.code))
	}
	return k, p, err
}

func (c *Conn) read() (kind Kind, p []byte, err error) {
	c.buf = c.buf[:0]
	for {
		op, last, err := c.frame()
		switch {
		case err != nil:
			return 0, nil, err
		case op >= opClose:
			continue
		case (op == opMore) != (kind != 0):
			return 0, nil, &protocolError{mistaken, "a message within a message"}
		case op != opMore:
			kind = Kind(op)
		}
		if !last {
			continue
		}
		if kind == Text && !utf8.Valid(c.buf) {
			return 0, nil, &protocolError{notText, "text that is not UTF-8"}
		}
		return kind, c.buf, nil
	}
}

// frame reads a frame. It appends the payload of a part of a message to buf, and answers what is
// about the connection.
func (c *Conn) frame() (op byte, last bool, err error) {
	c.conn.SetReadDeadline(time.Now().Add(readTimeout))
	var h [2]byte
	if _, err := io.ReadFull(c.r, h[:]); err != nil {
		return 0, false, noEOF(err)
	}
	op, last = h[0]&0xf, h[0]&final != 0
	n, err := c.length(h[1] &^ masked)
	switch {
	case err != nil:
		return 0, false, err
	case h[0]&reserved != 0 || h[1]&masked == 0:
		return 0, false, &protocolError{mistaken, "a frame that no browser sends"}
	case op >= opClose:
		return op, last, c.control(op, n, last)
	case op > byte(Binary):
		return 0, false, &protocolError{mistaken, "a frame of an unknown kind"}
	case n > uint64(MaxMessage-len(c.buf)):
		return 0, false, &protocolError{tooBig, "a message that is too long"}
	}
	var mask [4]byte
	if _, err := io.ReadFull(c.r, mask[:]); err != nil {
		return 0, false, noEOF(err)
	}
	c.buf, err = appendMasked(c.buf, c.r, int(n), mask)
	return op, last, err
}

// length reads the length that follows the first two bytes.
func (c *Conn) length(short byte) (uint64, error) {
	var b [8]byte
	size := map[byte]int{126: 2, 127: 8}[short]
	if size == 0 {
		return uint64(short), nil
	}
	if _, err := io.ReadFull(c.r, b[8-size:]); err != nil {
		return 0, noEOF(err)
	}
	return binary.BigEndian.Uint64(b[:]), nil
}

// appendMasked reads n bytes and takes the mask off. Memory is made as they come.
func appendMasked(buf []byte, r io.Reader, n int, mask [4]byte) ([]byte, error) {
	const step = 32 << 10
	for at := 0; at < n; {
		m := min(n-at, step)
		start := len(buf)
		buf = append(buf, make([]byte, m)...)
		if _, err := io.ReadFull(r, buf[start:]); err != nil {
			return buf, noEOF(err)
		}
		for i := range m {
			buf[start+i] ^= mask[(at+i)%4]
		}
		at += m
	}
	return buf, nil
}

// control reads and answers a frame about the connection.
func (c *Conn) control(op byte, n uint64, last bool) error {
	if n > maxControl || !last || op > opPong {
		return &protocolError{mistaken, "a frame about the connection that is too long, or in parts, or unknown"}
	}
	var mask [4]byte
	if _, err := io.ReadFull(c.r, mask[:]); err != nil {
		return noEOF(err)
	}
	p, err := appendMasked(nil, c.r, int(n), mask)
	if err != nil {
		return err
	}
	switch op {
	case opPing:
		return c.write(opPong, p)
	case opClose:
		c.write(opClose, p[:min(len(p), 2)])
		return io.EOF
	}
	return nil
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Write sends a message. It fails where the browser does not read for half a minute.
func (c *Conn) Write(k Kind, p []byte) error { return c.write(byte(k), p) }

func (c *Conn) write(op byte, p []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return c.err
	}
	c.out = append(appendHeader(c.out[:0], op, len(p)), p...)
	c.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
	if _, c.err = c.conn.Write(c.out); c.err == nil && op == opClose {
		c.err = net.ErrClosed
		return nil
	}
	return c.err
}

func appendHeader(b []byte, op byte, n int) []byte {
	b = append(b, final|op)
	switch {
	case n < 126:
		return append(b, byte(n))
	case n <= 0xffff:
		return binary.BigEndian.AppendUint16(append(b, 126), uint16(n))
	}
	return binary.BigEndian.AppendUint64(append(b, 127), uint64(n))
}

// Close says goodbye and closes the connection.
func (c *Conn) Close() error {
	var err error
	c.once.Do(func() {
		close(c.stop)
		if c.mu.TryLock() { // else a write hangs, and ends with the connection
			c.mu.Unlock()
			c.write(opClose, binary.BigEndian.AppendUint16(nil, normal))
		}
		err = c.conn.Close()
	})
	return err
}
