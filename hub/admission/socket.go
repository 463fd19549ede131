// Package admission decides which connections and requests a hub lets in, so that no peer keeps the
// others out.
//
//	socket.go      a connection whose peer is not known yet, and how long it keeps the hub waiting
//	handshakes.go  the places of such connections, and which of them gives way
//	budget.go      rates of requests of peers that are known
package admission

import (
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Socket is what TLS runs on. It reports when TLS closes it. Until its peer is known, it measures
// how long the peer keeps the hub waiting.
type Socket struct {
	*net.TCPConn
	From   netip.Addr // the source of the connection, see [Source]
	closed func()     // nil: not reported
	once   sync.Once

	begun   time.Time    // static
	waiting atomic.Int64 // nanoseconds after begun at which the Read that runs began; 0: none runs
	waited  atomic.Int64 // nanoseconds that earlier Reads took

	known bool // the peer is; owned by the goroutine that reads, which is one until then
}

// NewSocket makes a Socket of a connection from a source, see [Source]. Its peer is not known yet.
func NewSocket(raw *net.TCPConn, from netip.Addr) *Socket {
	return &Socket{TCPConn: raw, From: from, begun: time.Now()}
}

// Known ends the measuring. closed is called once, when TLS closes the connection; nil: it is not
// reported. It is called by the goroutine that reads.
func (s *Socket) Known(closed func()) { s.known, s.closed = true, closed }

// Source is what counts as one source: an IPv4 address, or the /64 of an IPv6 one, which belongs to
// one customer.
func Source(a netip.Addr) netip.Addr {
	a = a.Unmap()
	if a.Is6() {
		p, _ := a.WithZone("").Prefix(64)
		return p.Addr()
	}
	return a
}

// Read reads from the connection.
func (s *Socket) Read(p []byte) (int, error) {
	if s.known {
		return s.TCPConn.Read(p)
	}
	now := int64(max(time.Since(s.begun), 1))
	s.waiting.Store(now)
	n, err := s.TCPConn.Read(p)
	s.waited.Add(int64(time.Since(s.begun)) - now)
	s.waiting.Store(0)
	return n, err
}

// silence returns how long the hub has waited for the peer in all. Time in which the hub was busy
// does not count.
func (s *Socket) silence(now time.Time) time.Duration {
	d := s.waited.Load()
	if since := s.waiting.Load(); since != 0 {
		d += int64(now.Sub(s.begun)) - since
	}
	return time.Duration(d)
}

// Abort closes the connection with a reset.
func (s *Socket) Abort() {
	s.SetLinger(0)
	s.TCPConn.Close()
}

// Close closes the connection for TLS and what is above it.
func (s *Socket) Close() error {
	if s.closed != nil {
		s.once.Do(s.closed)
	}
	return s.TCPConn.Close()
}
