package tunnel

import (
	"encoding/binary"
	"net"

	"ztm/tunnel/h2"
)

// RecordConn keeps a TLS endpoint above it from reading past the TLS record it is in, so that the layer can be dropped
// after a known record and the next byte is still in the socket. crypto/tls reads ahead where the connection lets it.
//
// It measures the round trip of the handshake on the way. The header of a record is five bytes, the last two its length (RFC 8446 section 5.1).
type RecordConn struct {
	net.Conn
	Away   h2.RoundTrip // of the handshake
	header [5]byte
	have   int // bytes of header seen
	body   int // bytes of the record still to come
}

// Read returns bytes of the current record alone.
func (c *RecordConn) Read(p []byte) (int, error) {
	if c.body > 0 {
		n, err := c.Conn.Read(p[:min(len(p), c.body)])
		c.body -= n
		return n, err
	}
	n, err := c.Conn.Read(p[:min(len(p), len(c.header)-c.have)])
	if n > 0 {
		c.Away.Received()
	}
	c.have += copy(c.header[c.have:], p[:n])
	if c.have == len(c.header) {
		c.have, c.body = 0, int(binary.BigEndian.Uint16(c.header[3:]))
	}
	return n, err
}

// Write writes to the connection below.
func (c *RecordConn) Write(p []byte) (int, error) {
	c.Away.Sent()
	return c.Conn.Write(p)
}
