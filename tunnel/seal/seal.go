// Package seal is the end-to-end session between two agents: TLS 1.3 from A's key to B's key over whatever carries
// bytes, and HTTP/2 inside. The hub does not link this package.
//
//	A                                                        B
//	Client: TLS client, checks that B's key is the ID wanted  Server: TLS server, learns A's user and ID from A's leaf
//	Session: one HTTP/2 request = one flow                    h2.Server with the agent's handler
//	Lane: the same for one flow that moves much, without HTTP/2
//	   └── batch: many TLS records in one system call ──────────┘
//	        └── carrier (tunnel.Carry, a stream, a pipe)
package seal

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"ztm/tunnel/capsule"
	"ztm/tunnel/h2"
	"ztm/tunnel/identity"
)

// ALPN protocols inside a carrier.
const (
	Proto     = "h2"         // a session of many flows
	LaneProto = "ztm-lane/1" // the lane of one flow that moves much
)

// handshakeTimeout bounds the handshake; the peer may be a slow device on a slow line.
const handshakeTimeout = 15 * time.Second

// Session is A's end. It is safe for concurrent use.
type Session struct {
	Peer identity.Subject // whom the handshake proved to be at the other end

	cc   *http.ClientConn
	conn net.Conn
	done chan struct{} // closed when the session is over
	once sync.Once

	mu       sync.Mutex
	flows    map[*capsule.Conn]struct{} // guarded by mu
	opening  int                        // guarded by mu
	lastUsed time.Time                  // guarded by mu
}

// Client seals carrier as A towards the endpoint want. It owns the carrier from now on, also when it fails.
func Client(ctx context.Context, carrier net.Conn, v *identity.Verifier, cert tls.Certificate, want identity.ID) (*Session, error) {
	c, peer, err := client(ctx, carrier, v, cert, want, Proto)
	if err != nil {
		return nil, err
	}
	s := &Session{Peer: peer, done: make(chan struct{}), flows: map[*capsule.Conn]struct{}{}, lastUsed: time.Now()}
	c.hook = s.gone
	s.conn = newOutbox(c, carrier)
	if s.cc, err = h2.Client(ctx, s.conn, h2.Sealed(c.batch.meter.RTT())); err != nil {
		return nil, fmt.Errorf("sealed session: %w", err)
	}
	return s, nil
}

// ClientLane seals carrier as A for one flow. It owns the carrier from now on, also when it fails.
func ClientLane(ctx context.Context, carrier net.Conn, v *identity.Verifier, cert tls.Certificate, want identity.ID) (*Lane, error) {
	c, _, err := client(ctx, carrier, v, cert, want, LaneProto)
	if err != nil {
		return nil, err
	}
	return &Lane{c}, nil
}

func client(ctx context.Context, carrier net.Conn, v *identity.Verifier, cert tls.Certificate, want identity.ID, proto string) (*sealed, identity.Subject, error) {
	config := v.ClientConfig(cert, identity.RoleMember, want, proto)
	config.DynamicRecordSizingDisabled = true // what flows here is measured in megabytes or in round trips, not in first records
	b := newBatch(carrier)
	c := tls.Client(b, config)
	peer, err := shake(ctx, c, b, v)
	if err != nil {
		return nil, peer, err
	}
	return &sealed{Conn: c, batch: b, hook: func() {}}, peer, nil
}

// Accepted is a carrier that B has sealed: exactly one of Session and Lane is set.
type Accepted struct {
	Peer    identity.Subject
	Session net.Conn      // to serve HTTP/2 on
	RTT     time.Duration // the round trip to the peer, as the handshake had it
	Lane    *Lane         // of one flow; it begins with a header block
}

// Server seals carrier as B. It owns the carrier from now on, also when it fails.
func Server(ctx context.Context, carrier net.Conn, v *identity.Verifier, cert func() tls.Certificate) (Accepted, error) {
	config := v.ServerConfig(cert, Proto, LaneProto)
	config.DynamicRecordSizingDisabled = true
	b := newBatch(carrier)
	c := tls.Server(b, config)
	peer, err := shake(ctx, c, b, v)
	if err != nil {
		return Accepted{}, err
	}
	s := &sealed{Conn: c, batch: b, hook: func() {}}
	if c.ConnectionState().NegotiatedProtocol == LaneProto {
		return Accepted{Peer: peer, Lane: &Lane{s}}, nil
	}
	return Accepted{Peer: peer, Session: newOutbox(s, carrier), RTT: b.meter.RTT()}, nil
}

// shake completes the handshake and returns who the peer is. It closes the carrier when it fails.
func shake(ctx context.Context, c *tls.Conn, b *batch, v *identity.Verifier) (identity.Subject, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	err := c.HandshakeContext(ctx)
	if err != nil {
		b.Conn.Close()
		return identity.Subject{}, fmt.Errorf("sealed handshake: %w", err)
	}
	b.meter.Over()
	peer, err := v.Subject(c.ConnectionState(), identity.RoleMember)
	if err != nil {
		b.Conn.Close()
	}
	return peer, err
}

func (s *Session) gone() { s.once.Do(func() { close(s.done) }) }

// Done is closed when the session is over.
func (s *Session) Done() <-chan struct{} { return s.done }

// Close ends the session and its flows at once.
func (s *Session) Close() error {
	err := s.conn.Close()
	s.cc.Close()
	return err
}

// Open opens a flow as [capsule.Open] does.
func (s *Session) Open(ctx context.Context, req *http.Request, datagrams bool, early capsule.Early) (*capsule.Conn, *http.Response, error) {
	s.mu.Lock()
	s.opening++
	s.mu.Unlock()
	c, resp, err := capsule.Open(ctx, s.cc, req, datagrams, early)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opening--
	s.lastUsed = time.Now()
	if c != nil {
		s.flows[c] = struct{}{}
		c.OnEnd(func() { s.forget(c) })
	}
	return c, resp, err
}

func (s *Session) forget(c *capsule.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.flows, c)
	s.lastUsed = time.Now()
}

// RoundTrip sends a plain request.
func (s *Session) RoundTrip(req *http.Request) (*http.Response, error) {
	s.mu.Lock()
	s.lastUsed = time.Now()
	s.mu.Unlock()
	return s.cc.RoundTrip(req)
}

// Load reports the flows that are open or opening, and whether one of them is a burden to the others: it moves much, or its reader has stopped, and
// it has no lane, or none yet.
func (s *Session) Load() (flows int, burdened bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.flows {
		if !c.Moved() && c.Sent()+c.Received() > capsule.BulkBytes || c.Stalled() {
			burdened = true
			break
		}
	}
	return len(s.flows) + s.opening, burdened
}

// IdleSince returns when the last flow ended, or false while there is one.
func (s *Session) IdleSince() (time.Time, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lastUsed, len(s.flows)+s.opening == 0
}

// Err reports why the session cannot take another request; nil if it can.
func (s *Session) Err() error {
	select {
	case <-s.done:
		return net.ErrClosed
	default:
	}
	if err := s.cc.Err(); err != nil {
		return err
	}
	if s.cc.Available() <= 0 {
		return fmt.Errorf("no free stream")
	}
	return nil
}
