package seal

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"ztm/tunnel/gather"
	"ztm/tunnel/handshake"
)

// batch lies between TLS and the path: what is gathered and read ahead it hands to TLS one record at a
// time, so that what is read ahead stays below, where another says whether a whole record has come.
type batch struct {
	*gather.Conn
	left int // bytes of the record being read; 0 before its header; owned by the reading goroutine

	meter handshake.Meter

	patient atomic.Bool // writes have no deadline
}

func newBatch(path net.Conn) *batch { return &batch{Conn: gather.New(path)} }

// over says that the handshake is over.
func (b *batch) over() {
	b.meter.Over()
	b.Conn.Grow()
}

// recordHeader is the size of a TLS record's header in bytes; its last two are the length of the
// rest (RFC 8446 section 5.1).
const recordHeader = 5

// Read is for TLS. The path's end is a failure to it, see errCut.
func (b *batch) Read(p []byte) (int, error) {
	b.meter.Waits()
	if b.left == 0 {
		head, err := b.Conn.Peek(recordHeader)
		if err != nil {
			return 0, cut(err)
		}
		b.left = recordHeader + int(binary.BigEndian.Uint16(head[3:]))
	}
	most, err := b.meter.Allow(min(len(p), b.left))
	if err != nil {
		return 0, err
	}
	n, err := b.Conn.Read(p[:most])
	b.left -= n
	b.meter.Received(n)
	return n, cut(err)
}

// errCut is what the end of a path is to those who read above TLS. They get io.EOF for a
// close_notify (RFC 8446 section 6.1), after which TLS does not read on. crypto/tls would give them
// io.EOF for a path that ends between two records, too: then a hub, or the death of a peer, could
// make half a transfer look like a whole one.
var errCut = errors.New("the path ended before the peer did")

func cut(err error) error {
	if err == io.EOF {
		return errCut
	}
	return err
}

// SetWriteDeadline is for TLS, which sets one for its close_notify.
func (b *batch) SetWriteDeadline(t time.Time) error {
	if b.patient.Load() {
		return nil
	}
	return b.Conn.SetWriteDeadline(t)
}

// another reports whether the next record is here as a whole, so that reading it does not wait.
func (b *batch) another() bool {
	have := b.Conn.Buffered()
	if b.left > 0 {
		return have >= b.left
	}
	if have < recordHeader {
		return false
	}
	head, _ := b.Conn.Peek(recordHeader)
	return have >= recordHeader+int(binary.BigEndian.Uint16(head[3:]))
}

// Write is for TLS.
func (b *batch) Write(p []byte) (int, error) {
	b.meter.Sent()
	return b.Conn.Write(p)
}

// sealed is the TLS connection as HTTP/2 sees it. Writes come from one goroutine at a time.
type sealed struct {
	*tls.Conn
	batch *batch
	once  sync.Once
}

func (s *sealed) Write(p []byte) (int, error) { return s.batch.Through(s.Conn, p) }

// Close ends the connection without waiting for a peer that reads nothing.
func (s *sealed) Close() (err error) {
	s.once.Do(func() {
		late := time.AfterFunc(time.Second, func() { s.batch.Conn.Close() })
		defer late.Stop()
		err = s.Conn.Close()
	})
	return err
}
