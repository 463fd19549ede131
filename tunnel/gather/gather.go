// Package gather lies between TLS and what carries it. crypto/tls makes one write of each record and
// one read of each record or two; a [Conn] gathers the records of one Write above into one system
// call and reads ahead as much as there is. What moves much then costs an eighth of the calls.
//
//	Through -> Write of crypto/tls -> Conn.Write, for each record -> one write
//	Read    <- Conn.Read, for a piece of a record                 <- readAhead, one read
package gather

import (
	"io"
	"net"
	"sync"

	"ztm/tunnel/buffer"
)

// Conn is the connection below TLS. At rest it holds no buffer. One goroutine may read while others
// write; make it with [New].
type Conn struct {
	net.Conn
	in readAhead // owned by the reading goroutine

	mu     sync.Mutex
	out    *[]byte // guarded by mu: records that wait for flush; nil while there are none
	n      int     // bytes of out; guarded by mu
	gather int     // guarded by mu: bytes of the records of the Write above that is in progress; 0 without one
}

// New makes a Conn of a connection, which it owns from now on.
func New(c net.Conn) *Conn { return &Conn{Conn: c, in: newReadAhead(c)} }

// Grow has it read ahead more than 4 KiB from now on: who a peer is, is known. It is the reading goroutine's.
func (c *Conn) Grow() { c.in.grows = true }

// Read implements net.Conn. It waits only if nothing was read ahead.
func (c *Conn) Read(p []byte) (int, error) { return c.in.Read(p) }

// Buffered returns how many bytes were read ahead and not taken. It is the reading goroutine's, and so
// is Peek, which returns the next n bytes without taking them; n is small.
func (c *Conn) Buffered() int { return c.in.buffered() }

// Peek: see Buffered.
func (c *Conn) Peek(n int) ([]byte, error) { return c.in.peek(n) }

// Record is what TLS puts into one record at most, in bytes, and sealedRecord what becomes of it
// (RFC 8446 section 5.2).
const (
	Record       = 16384
	sealedRecord = Record + 256
)

// gathered are what a Write above is gathered in. A connection holds one only while it writes.
var gathered = buffer.NewClasses(buffer.Largest/4/Record*sealedRecord, buffer.Largest/Record*sealedRecord)

// Through writes p to the TLS connection above, and its records in one write below. It is for one
// goroutine at a time.
func (c *Conn) Through(above io.Writer, p []byte) (int, error) {
	if len(p) <= Record {
		return above.Write(p) // one record is one system call
	}
	c.begin(len(p))
	n, err := above.Write(p)
	if ferr := c.flush(); err == nil {
		err = ferr
	}
	return n, err
}

// Write implements net.Conn. It is for TLS.
func (c *Conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gather == 0 {
		return c.Conn.Write(p)
	}
	if c.out == nil {
		c.out = gathered.Get(c.gather)
	}
	if c.n+len(p) > len(*c.out) {
		if err := c.sendLocked(); err != nil {
			return 0, err
		}
	}
	if len(p) > len(*c.out) {
		return c.Conn.Write(p)
	}
	c.n += copy((*c.out)[c.n:], p)
	return len(p), nil
}

func (c *Conn) sendLocked() error {
	if c.n == 0 {
		return nil
	}
	_, err := c.Conn.Write((*c.out)[:c.n])
	c.n = 0
	return err
}

// begin has the records of a Write of so many bytes wait for flush.
func (c *Conn) begin(size int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gather = (size + Record - 1) / Record * sealedRecord
}

func (c *Conn) flush() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gather = 0
	err := c.sendLocked()
	if c.out != nil {
		gathered.Put(c.out)
		c.out = nil
	}
	return err
}
