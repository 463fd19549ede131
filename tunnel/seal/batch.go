package seal

import (
	"bufio"
	"crypto/tls"
	"net"
	"sync"
	"time"
)

// readAhead is how many bytes one system call reads at most: four TLS records.
const readAhead = 64 << 10

// batch lies between TLS and the carrier. crypto/tls makes one write of each record and one read of each record or two;
// batch gathers the records of one Write above into one system call and reads ahead as much as there is.
type batch struct {
	net.Conn
	in *bufio.Reader // owned by the reading goroutine

	mu     sync.Mutex
	out    []byte // guarded by mu: records that wait for flush
	gather bool   // guarded by mu: a Write above is in progress
}

func newBatch(carrier net.Conn) *batch {
	return &batch{Conn: carrier, in: bufio.NewReaderSize(carrier, readAhead)}
}

func (b *batch) Read(p []byte) (int, error) { return b.in.Read(p) }

func (b *batch) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.gather {
		b.out = append(b.out, p...)
		return len(p), nil
	}
	return b.Conn.Write(p)
}

func (b *batch) begin() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.gather = true
}

// keep is the largest buffer that is kept between writes, in bytes: one frame of two records.
const keep = 40 << 10

func (b *batch) flush() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.gather = false
	if len(b.out) == 0 {
		return nil
	}
	_, err := b.Conn.Write(b.out)
	if b.out = b.out[:0]; cap(b.out) > keep {
		b.out = nil
	}
	return err
}

// sealed is the TLS connection as HTTP/2 sees it. Writes come from one goroutine at a time.
type sealed struct {
	*tls.Conn
	batch *batch
	hook  func()
	once  sync.Once
}

func (s *sealed) Write(p []byte) (int, error) {
	s.batch.begin()
	n, err := s.Conn.Write(p)
	if ferr := s.batch.flush(); err == nil {
		err = ferr
	}
	return n, err
}

// Close ends the connection without waiting for a peer that reads nothing.
func (s *sealed) Close() (err error) {
	s.once.Do(func() {
		s.hook()
		impatient := time.AfterFunc(time.Second, func() { s.batch.Conn.Close() })
		defer impatient.Stop()
		err = s.Conn.Close()
	})
	return err
}
