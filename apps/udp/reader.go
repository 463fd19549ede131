package udp

import (
	"io"
	"net"
	"sync"
)

// MaxPacket is a buffer for any datagram that a socket delivers, in bytes.
const MaxPacket = 1 << 16

// buffers are what datagrams are read into. Most connections wait for a datagram most of the time.
var buffers = sync.Pool{New: func() any { b := make([]byte, MaxPacket); return &b }}

// Reader reads the datagrams of a connection. While none comes it holds no buffer where it can do
// without: of a flow, and on Unix of a UDP socket. It is for one goroutine at a time.
type Reader struct {
	conn io.Reader
	wait func() error                           // nil: conn cannot wait without a buffer
	take func() (buf *[]byte, n int, err error) // of a socket; nil: read from conn
}

// NewReader returns a reader of a connection each of whose Reads returns one datagram.
func NewReader(c io.Reader) *Reader {
	r := &Reader{conn: c}
	switch c := c.(type) {
	case interface{ Wait() error }:
		r.wait = c.Wait
	case *net.UDPConn:
		r.take = taker(c)
	}
	return r
}

// Read waits for a datagram and passes it to use, which may not keep it. The error is that of the
// connection.
func (r *Reader) Read(use func([]byte)) error {
	buf, n, err := r.next()
	if buf != nil {
		defer buffers.Put(buf)
	}
	if err != nil {
		return err
	}
	use((*buf)[:n])
	return nil
}

func (r *Reader) next() (buf *[]byte, n int, err error) {
	if r.take != nil {
		return r.take()
	}
	if r.wait != nil {
		if err := r.wait(); err != nil {
			return nil, 0, err
		}
	}
	buf = buffers.Get().(*[]byte)
	n, err = r.conn.Read(*buf)
	return buf, n, err
}
