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

	"ztm/tunnel/buffer"
	"ztm/tunnel/handshake"
)

// batch lies between TLS and the path. crypto/tls makes one write of each record and one read of
// each record or two; batch gathers the records of one Write above into one system call and reads
// ahead as much as there is.
//
// It hands TLS one record at a time, so that what is read ahead stays in here, where another says
// whether a whole record has come.
type batch struct {
	net.Conn
	in   readAhead // owned by the reading goroutine
	left int       // bytes of the record being read; 0 before its header; owned by the reading goroutine

	meter handshake.Meter

	patient atomic.Bool // writes have no deadline

	mu     sync.Mutex
	out    *[]byte // guarded by mu: records that wait for flush; nil while there are none
	n      int     // bytes of out; guarded by mu
	gather int     // guarded by mu: bytes of the records of the Write above that is in progress; 0 without one
}

func newBatch(path net.Conn) *batch {
	return &batch{Conn: path, in: newReadAhead(path)}
}

// over says that the handshake is over.
func (b *batch) over() {
	b.meter.Over()
	b.in.grows = true
}

// recordHeader is the size of a TLS record's header in bytes; its last two are the length of the
// rest (RFC 8446 section 5.1).
const recordHeader = 5

// Read is for TLS. The path's end is a failure to it, see errCut.
func (b *batch) Read(p []byte) (int, error) {
	b.meter.Waits()
	if b.left == 0 {
		head, err := b.in.peek(recordHeader)
		if err != nil {
			return 0, cut(err)
		}
		b.left = recordHeader + int(binary.BigEndian.Uint16(head[3:]))
	}
	most, err := b.meter.Allow(min(len(p), b.left))
	if err != nil {
		return 0, err
	}
	n, err := b.in.Read(p[:most])
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
	have := b.in.buffered()
	if b.left > 0 {
		return have >= b.left
	}
	if have < recordHeader {
		return false
	}
	head, _ := b.in.peek(recordHeader)
	return have >= recordHeader+int(binary.BigEndian.Uint16(head[3:]))
}

// record is what TLS puts into one record at most, in bytes, and sealedRecord what becomes of it
// (RFC 8446 section 5.2).
const (
	record       = 16384
	sealedRecord = record + 256
)

// gathered are what a Write above is gathered in. A session holds one only while it writes.
var gathered = buffer.NewClasses(buffer.Largest/4/record*sealedRecord, buffer.Largest/record*sealedRecord)

func (b *batch) Write(p []byte) (int, error) {
	b.meter.Sent()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.gather == 0 {
		return b.Conn.Write(p)
	}
	if b.out == nil {
		b.out = gathered.Get(b.gather)
	}
	if b.n+len(p) > len(*b.out) {
		if err := b.sendLocked(); err != nil {
			return 0, err
		}
	}
	if len(p) > len(*b.out) {
		return b.Conn.Write(p)
	}
	b.n += copy((*b.out)[b.n:], p)
	return len(p), nil
}

func (b *batch) sendLocked() error {
	if b.n == 0 {
		return nil
	}
	_, err := b.Conn.Write((*b.out)[:b.n])
	b.n = 0
	return err
}

// begin has the records of a Write of so many bytes wait for flush.
func (b *batch) begin(size int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.gather = (size + record - 1) / record * sealedRecord
}

func (b *batch) flush() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.gather = 0
	err := b.sendLocked()
	if b.out != nil {
		gathered.Put(b.out)
		b.out = nil
	}
	return err
}

// sealed is the TLS connection as HTTP/2 sees it. Writes come from one goroutine at a time.
type sealed struct {
	*tls.Conn
	batch *batch
	once  sync.Once
}

func (s *sealed) Write(p []byte) (int, error) {
	if len(p) <= record {
		return s.Conn.Write(p) // one record is one system call
	}
	s.batch.begin(len(p))
	n, err := s.Conn.Write(p)
	if ferr := s.batch.flush(); err == nil {
		err = ferr
	}
	return n, err
}

// Close ends the connection without waiting for a peer that reads nothing.
func (s *sealed) Close() (err error) {
	s.once.Do(func() {
		late := time.AfterFunc(time.Second, func() { s.batch.Conn.Close() })
		defer late.Stop()
		err = s.Conn.Close()
	})
	return err
}
