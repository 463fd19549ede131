// Package directtest is a network for datagrams in memory: sockets at made-up addresses, a NAT, and
// packets that are lost.
package directtest

import (
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"ztm/tunnel/direct"
)

// Air is a network. Make it with [NewAir]. It is safe for concurrent use.
type Air struct {
	mu     sync.Mutex
	at     map[netip.AddrPort]*socket // guarded by mu
	port   uint16                     // of the last socket; guarded by mu
	passes Passes                     // guarded by mu
}

// Passes says what becomes of a packet: where the receiver sees it come from, and whether it arrives.
type Passes func(from, to netip.AddrPort, packet []byte) (seen netip.AddrPort, arrives bool)

// All is the network that changes and loses nothing.
func All(from, _ netip.AddrPort, _ []byte) (netip.AddrPort, bool) { return from, true }

// None loses everything.
func None(from, _ netip.AddrPort, _ []byte) (netip.AddrPort, bool) { return from, false }

// NewAir makes a network.
func NewAir() *Air { return &Air{at: map[netip.AddrPort]*socket{}, port: 40000, passes: All} }

// Set changes what becomes of packets.
func (a *Air) Set(p Passes) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.passes = p
}

// Open returns how many sockets are open.
func (a *Air) Open() (n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for place, s := range a.at {
		if s.own == place {
			n++
		}
	}
	return n
}

// Socket opens a socket at an address.
func (a *Air) Socket(at netip.Addr) direct.Socket {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.port++
	s := &socket{air: a, own: netip.AddrPortFrom(at, a.port), in: make(chan packet, 256), closed: make(chan struct{})}
	a.at[s.own] = s
	return s
}

// Inject sends a packet that no socket sends.
func (a *Air) Inject(from, to netip.AddrPort, b []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.deliverLocked(from, to, b)
}

func (a *Air) deliverLocked(from, to netip.AddrPort, b []byte) {
	s := a.at[to]
	if s == nil || s.peer.IsValid() && s.peer != from {
		return
	}
	select {
	case s.in <- packet{from, append([]byte{}, b...)}:
	default: // it is full, and loses it
	}
}

func (a *Air) send(s *socket, to netip.AddrPort, b []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	seen, arrives := a.passes(s.own, to, b)
	if !arrives {
		return
	}
	a.at[seen] = s
	a.deliverLocked(seen, to, b)
}

type packet struct {
	from netip.AddrPort
	b    []byte
}

// socket is a net.PacketConn, and once it is connected a net.Conn.
type socket struct {
	air    *Air
	own    netip.AddrPort
	peer   netip.AddrPort // zero: it is not connected; guarded by air.mu
	in     chan packet
	closed chan struct{}
	once   sync.Once

	mu    sync.Mutex
	until time.Time // guarded by mu
}

func (s *socket) Connect(to netip.AddrPort) (net.Conn, error) {
	s.air.mu.Lock()
	defer s.air.mu.Unlock()
	s.peer, s.until = to, time.Time{}
	return s, nil
}

// ReadFrom heeds the deadline that was set before.
func (s *socket) ReadFrom(b []byte) (int, net.Addr, error) {
	s.mu.Lock()
	until := s.until
	s.mu.Unlock()
	var late <-chan time.Time
	if !until.IsZero() {
		timer := time.NewTimer(time.Until(until))
		defer timer.Stop()
		late = timer.C
	}
	select {
	case p := <-s.in:
		return copy(b, p.b), net.UDPAddrFromAddrPort(p.from), nil
	case <-s.closed:
		return 0, nil, net.ErrClosed
	case <-late:
		return 0, nil, os.ErrDeadlineExceeded
	}
}

func (s *socket) Read(b []byte) (int, error) {
	n, _, err := s.ReadFrom(b)
	return n, err
}

func (s *socket) WriteTo(b []byte, to net.Addr) (int, error) {
	s.air.send(s, to.(*net.UDPAddr).AddrPort(), b)
	return len(b), nil
}

func (s *socket) Write(b []byte) (int, error) {
	select {
	case <-s.closed:
		return 0, net.ErrClosed
	default:
	}
	s.air.send(s, s.peer, b)
	return len(b), nil
}

func (s *socket) Close() error {
	s.once.Do(func() {
		close(s.closed)
		s.air.mu.Lock()
		defer s.air.mu.Unlock()
		for place, other := range s.air.at {
			if other == s {
				delete(s.air.at, place)
			}
		}
	})
	return nil
}

func (s *socket) LocalAddr() net.Addr  { return net.UDPAddrFromAddrPort(s.own) }
func (s *socket) RemoteAddr() net.Addr { return net.UDPAddrFromAddrPort(s.peer) }

func (s *socket) SetDeadline(t time.Time) error    { return s.SetReadDeadline(t) }
func (s *socket) SetWriteDeadline(time.Time) error { return nil }

func (s *socket) SetReadDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.until = t
	return nil
}
