package appstest

import (
	"io"
	"net"
	"sync"
	"syscall"
	"time"

	"ztm/apps"
)

// queueLength is how many datagrams wait in one direction before the oldest is dropped.
const queueLength = 256

// datagramConn is one end of a pair. Each end reads from its own queue and writes to the other's.
type datagramConn struct {
	in, out *queue
}

func datagramPair() (near, far net.Conn) {
	a, b := newQueue(), newQueue()
	return &datagramConn{a, b}, &datagramConn{b, a}
}

func (c *datagramConn) Read(p []byte) (int, error)  { return c.in.get(p) }
func (c *datagramConn) Write(p []byte) (int, error) { return c.out.put(p) }

// Close ends both directions; the other side reads what is queued, then io.EOF.
func (c *datagramConn) Close() error {
	c.in.close(net.ErrClosed, true)
	c.out.close(io.EOF, false)
	return nil
}

// Reset ends both directions; the other side's reads fail at once.
func (c *datagramConn) Reset() error {
	c.in.close(net.ErrClosed, true)
	c.out.close(syscall.ECONNRESET, true)
	return nil
}

func (c *datagramConn) LocalAddr() net.Addr  { return &net.UDPAddr{} }
func (c *datagramConn) RemoteAddr() net.Addr { return &net.UDPAddr{} }

func (c *datagramConn) SetDeadline(time.Time) error      { return errNoDeadline }
func (c *datagramConn) SetReadDeadline(time.Time) error  { return errNoDeadline }
func (c *datagramConn) SetWriteDeadline(time.Time) error { return errNoDeadline }

// queue is one direction of a pair.
type queue struct {
	mu      sync.Mutex
	changed sync.Cond // of mu
	waiting [][]byte
	err     error // set once: what reads give when nothing waits, and what makes writes fail
}

func newQueue() *queue {
	q := &queue{}
	q.changed.L = &q.mu
	return q
}

func (q *queue) get(p []byte) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for {
		if len(q.waiting) > 0 {
			d := q.waiting[0]
			q.waiting = q.waiting[1:]
			return copy(p, d), nil
		}
		if q.err != nil {
			return 0, q.err
		}
		q.changed.Wait()
	}
}

func (q *queue) put(p []byte) (int, error) {
	if len(p) > apps.MaxDatagram {
		return 0, syscall.EMSGSIZE
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err != nil {
		return 0, net.ErrClosed
	}
	if len(q.waiting) == queueLength {
		q.waiting = q.waiting[1:]
	}
	q.waiting = append(q.waiting, append([]byte(nil), p...))
	q.changed.Broadcast()
	return len(p), nil
}

func (q *queue) close(err error, drop bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if drop {
		q.waiting = nil
	}
	if q.err == nil {
		q.err = err
	}
	q.changed.Broadcast()
}
