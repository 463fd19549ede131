package hub

import (
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// socket is what TLS runs on. It reports when TLS closes it. Until its peer is known, it measures
// how long the peer keeps the hub waiting.
type socket struct {
	*net.TCPConn
	from   netip.Addr // the source of the connection, see source
	closed func()     // nil: not reported
	once   sync.Once

	begun   time.Time    // static
	waiting atomic.Int64 // nanoseconds after begun at which the Read that runs began; 0: none runs
	waited  atomic.Int64 // nanoseconds that earlier Reads took

	known bool // the peer is; owned by the goroutine that reads, which is one until then
}

func newSocket(raw *net.TCPConn, begun time.Time) *socket {
	return &socket{TCPConn: raw, from: source(addrOf(raw).Addr()), begun: begun}
}

// Read reads from the connection; of a peer that is not known yet no more than handshakeBytes in
// all. crypto/tls alone would take certificate messages of 256 KiB.
func (s *socket) Read(p []byte) (int, error) {
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
func (s *socket) silence(now time.Time) time.Duration {
	d := s.waited.Load()
	if since := s.waiting.Load(); since != 0 {
		d += int64(now.Sub(s.begun)) - since
	}
	return time.Duration(d)
}

// abort closes the connection with a reset.
func (s *socket) abort() {
	s.SetLinger(0)
	s.TCPConn.Close()
}

// Close closes the connection for TLS and what is above it.
func (s *socket) Close() error {
	if s.closed != nil {
		s.once.Do(s.closed)
	}
	return s.TCPConn.Close()
}
