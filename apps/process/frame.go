package process

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"ztm/tunnel/answer"
	"ztm/tunnel/splice"
)

type kind uint8

const (
	kindStart  kind = 0x01
	kindSource kind = 0x02
	kindStdin  kind = 0x03
	kindEOF    kind = 0x04
	kindResize kind = 0x05
	kindSignal kind = 0x06

	kindStarted kind = 0x81
	kindStdout  kind = 0x82
	kindStderr  kind = 0x83
	kindWindow  kind = 0x84
	kindExit    kind = 0x85
	kindFailed  kind = 0x86
)

const (
	header   = 4        // kind, length
	maxData  = 64 << 10 // payload of stdin, stdout, stderr, source
	maxStart = 1 << 20  // payload of start: a command line
	maxTold  = 16 << 10 // payload of started, exit, failed
	toCaller = 0x80     // set in the kinds that travel to the caller

	startTimeout = 30 * time.Second // for a caller to send start and source
	failTimeout  = 10 * time.Second // for a caller to close after failed
)

// bounds returns the shortest and the longest payload of a kind; ok is false for an unknown kind.
func bounds(k kind) (low, high int, ok bool) {
	switch k {
	case kindStart:
		return 2, maxStart, true
	case kindSource, kindStdin, kindStdout, kindStderr:
		return 1, maxData, true
	case kindEOF:
		return 0, 0, true
	case kindResize, kindWindow:
		return 4, 4, true
	case kindSignal:
		return 1, 8, true
	case kindStarted, kindExit, kindFailed:
		return 2, maxTold, true
	}
	return 0, 0, false
}

// Conn is a flow that carries frames. One goroutine may read; any may write.
type Conn struct {
	conn   net.Conn
	r      *bufio.Reader
	expect kind   // toCaller or 0: the direction of what is read
	buf    []byte // of the last frame read

	mu sync.Mutex // held by one write at a time
}

// Accepted returns the endpoint's side of a flow.
func Accepted(c net.Conn) *Conn { return &Conn{conn: c, r: bufio.NewReaderSize(c, 16<<10)} }

func opened(c net.Conn) *Conn {
	return &Conn{conn: c, r: bufio.NewReaderSize(c, 16<<10), expect: toCaller}
}

// next reads a frame. The payload is valid until the following call. The end of the flow between
// two frames is io.EOF.
func (c *Conn) next() (kind, []byte, error) {
	var h [header]byte
	if _, err := io.ReadFull(c.r, h[:]); err != nil {
		return 0, nil, err
	}
	k, n := kind(h[0]), int(h[1])<<16|int(h[2])<<8|int(h[3])
	low, high, ok := bounds(k)
	if !ok || k&toCaller != c.expect {
		return 0, nil, fmt.Errorf("unexpected frame of kind %#02x", h[0])
	}
	if n < low || n > high {
		return 0, nil, fmt.Errorf("frame of kind %#02x with %d bytes", h[0], n)
	}
	if cap(c.buf) < n {
		c.buf = make([]byte, max(n, 4<<10))
	}
	p := c.buf[:n]
	if _, err := io.ReadFull(c.r, p); err != nil {
		return 0, nil, noEOF(err)
	}
	return k, p, nil
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// seal writes the header of a frame into its first bytes.
func seal(frame []byte, k kind) []byte {
	binary.BigEndian.PutUint32(frame, uint32(len(frame)-header))
	frame[0] = byte(k)
	return frame
}

// send writes a frame that was sealed.
func (c *Conn) send(frame []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err := c.conn.Write(frame)
	return err
}

func (c *Conn) sendBytes(k kind, p []byte) error {
	return c.send(seal(append(make([]byte, header, header+len(p)), p...), k))
}

func (c *Conn) sendJSON(k kind, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if _, high, _ := bounds(k); len(b) > high {
		return answer.Errorf(answer.BadRequest, "the request has %d bytes, the limit is %d", len(b), high)
	}
	return c.sendBytes(k, b)
}

// ReadStart reads the request of the caller into v. The flow is aborted if it does not come in
// time.
func (c *Conn) ReadStart(v any) error {
	late := time.AfterFunc(startTimeout, c.abort)
	defer late.Stop()
	k, p, err := c.next()
	if err != nil {
		return err
	}
	if k != kindStart {
		return fmt.Errorf("frame of kind %#02x before start", byte(k))
	}
	if err := json.Unmarshal(p, v); err != nil {
		return answer.Errorf(answer.BadRequest, "start: %v", err)
	}
	return nil
}

// ReadSource reads the n bytes of text that belong to start. The caller of ReadSource has checked
// n.
func (c *Conn) ReadSource(n int) ([]byte, error) {
	late := time.AfterFunc(startTimeout, c.abort)
	defer late.Stop()
	var text []byte
	for len(text) < n {
		k, p, err := c.next()
		if err != nil {
			return nil, noEOF(err)
		}
		if k != kindSource || len(text)+len(p) > n {
			return nil, fmt.Errorf("frame of kind %#02x within the source", byte(k))
		}
		text = append(text, p...)
		late.Reset(startTimeout)
	}
	return text, nil
}

// Fail answers that nothing was started, and closes the flow. The text of an error that is not an
// *[answer.Error] stays here.
func (c *Conn) Fail(err error) {
	late := time.AfterFunc(failTimeout, c.abort)
	defer late.Stop()
	if c.sendJSON(kindFailed, answer.Public(err)) == nil {
		c.finish()
		io.Copy(io.Discard, c.r)
	}
	c.conn.Close()
}

// tellExit sends the exit and closes the direction to the caller.
func (c *Conn) tellExit(e Exit) error {
	if err := c.sendJSON(kindExit, e); err != nil {
		return err
	}
	c.finish()
	return nil
}

// finish closes the direction to the peer.
func (c *Conn) finish() {
	c.mu.Lock()
	defer c.mu.Unlock()
	splice.CloseWrite(c.conn)
}

// abort resets the flow; blocked reads and writes return.
func (c *Conn) abort() { splice.Abort(c.conn) }
