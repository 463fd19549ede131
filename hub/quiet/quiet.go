// Package quiet has a session that is at rest wait for its peer outside TLS: where crypto/tls waits
// it has its goroutine hold a stack of 8 KiB, and a hub has thousands of such sessions.
//
//	Await -> nothing is left of what TLS has read, nor of what was read ahead: the socket says when there is more
//	Read  -> a record is read as a whole, so that it is known whether anything is left
package quiet

import (
	"crypto/tls"
	"net"

	"ztm/tunnel/buffer"
	"ztm/tunnel/gather"
	"ztm/tunnel/splice"
)

// Conn is a TLS connection. One goroutine may read while another writes; make it with [New].
type Conn struct {
	*tls.Conn
	below *gather.Conn
	wait  func() // nil: the socket cannot be waited for

	// Owned by the reading goroutine.
	buf   *[]byte // nil at rest
	r, w  int     // what is read and not taken yet is buf[r:w]
	empty bool    // TLS has nothing more
}

// size is that of the buffer, in bytes: the frames of a control session fit in.
const size = 1 << 10

var buffers = buffer.NewClasses(size)

// New makes a Conn of a connection whose handshake is over. TLS must not read past the record it is
// in, and all that it reads comes from socket, through below.
func New(c *tls.Conn, below *gather.Conn, socket *net.TCPConn) *Conn {
	return &Conn{Conn: c, below: below, wait: splice.Waiter(socket)}
}

// Await waits until Read has something to say, or returns too early. The caller is the reading
// goroutine, and calls it where its stack is small.
func (c *Conn) Await() {
	if !c.empty || c.r < c.w || c.wait == nil || c.below.Buffered() > 0 {
		return
	}
	if c.buf != nil {
		buffers.Put(c.buf)
		c.buf = nil
	}
	c.empty = false
	c.wait()
}

// Write implements net.Conn.
func (c *Conn) Write(p []byte) (int, error) { return c.below.Through(c.Conn, p) }

// Read implements net.Conn. A large piece is read without the buffer.
func (c *Conn) Read(p []byte) (n int, err error) {
	if c.r == c.w {
		if len(p) >= size {
			n, err = c.Conn.Read(p)
			c.empty = n < len(p)
			return n, err
		}
		if err := c.fill(); err != nil {
			return 0, err
		}
	}
	n = copy(p, (*c.buf)[c.r:c.w])
	c.r += n
	return n, nil
}

func (c *Conn) fill() error {
	if c.buf == nil {
		c.buf = buffers.Get(size)
	}
	n, err := c.Conn.Read(*c.buf)
	c.r, c.w, c.empty = 0, n, n < size
	if n > 0 {
		return nil // the error comes again
	}
	return err
}
