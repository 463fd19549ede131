package tunnel

import (
	"encoding/binary"
	"net"

	"ztm/tunnel/gather"
	"ztm/tunnel/handshake"
)

// RecordConn keeps a TLS endpoint above it from reading past the TLS record it is in, so that the
// layer can be dropped after a known record and the next byte is still in the socket. crypto/tls
// reads ahead where the connection lets it.
//
// It meters the handshake on the way: who makes a RecordConn calls Meter.Over after the handshake,
// also after one that failed.
// The header of a record is five bytes, the last two its length (RFC 8446 section 5.1).
type RecordConn struct {
	net.Conn
	Meter  handshake.Meter
	header [5]byte
	have   int // bytes of header seen
	body   int // bytes of the record still to come
}

// Read returns bytes of the current record alone, and during the handshake no more than its limit.
func (c *RecordConn) Read(p []byte) (int, error) {
	c.Meter.Waits()
	most := len(c.header) - c.have
	if c.body > 0 {
		most = c.body
	}
	most, err := c.Meter.Allow(min(len(p), most))
	if err != nil {
		return 0, err
	}
	n, err := c.Conn.Read(p[:most])
	c.Meter.Received(n)
	if c.body > 0 {
		c.body -= n
		return n, err
	}
	c.have += copy(c.header[c.have:], p[:n])
	if c.have == len(c.header) {
		c.have, c.body = 0, int(binary.BigEndian.Uint16(c.header[3:]))
	}
	return n, err
}

// Gather has the bytes below TLS gathered and read ahead, where the layer stays: it is called between
// the handshake and the first use.
func (c *RecordConn) Gather() *gather.Conn {
	g := gather.New(c.Conn)
	g.Grow()
	c.Conn = g
	return g
}

// Write writes to the connection below.
func (c *RecordConn) Write(p []byte) (int, error) {
	c.Meter.Sent()
	return c.Conn.Write(p)
}
