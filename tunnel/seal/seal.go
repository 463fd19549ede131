// Package seal is the end-to-end session between two agents: TLS 1.3 from A's key to B's key over whatever carries
// bytes, and HTTP/2 inside. The hub does not link this package.
//
//	A                                                        B
//	Client: TLS client, checks that B's key is the ID wanted  Server: TLS server, learns A's user and ID from A's leaf
//	Session: one HTTP/2 request = one flow                    h2.Server with the agent's handler
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

// Proto is the ALPN protocol inside a carrier.
const Proto = "h2"

// handshakeTimeout bounds the handshake; the peer may be a slow device on a slow line.
const handshakeTimeout = 15 * time.Second

// BulkBytes is how much a flow has moved, in bytes, when it counts as bulk and wants a session for itself.
const BulkBytes = 1 << 20

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
	config := v.ClientConfig(cert, identity.RoleMember, want, Proto)
	config.DynamicRecordSizingDisabled = true // what flows here is measured in megabytes or in round trips, not in first records
	b := newBatch(carrier)
	c := tls.Client(b, config)
	if err := handshake(ctx, c, carrier); err != nil {
		return nil, err
	}
	peer, err := v.Subject(c.ConnectionState(), identity.RoleMember)
	if err != nil {
		carrier.Close()
		return nil, err
	}
	s := &Session{Peer: peer, done: make(chan struct{}), flows: map[*capsule.Conn]struct{}{}, lastUsed: time.Now()}
	s.conn = &sealed{Conn: c, batch: b, hook: s.gone}
	if s.cc, err = h2.Client(ctx, s.conn, h2.Sealed()); err != nil {
		return nil, fmt.Errorf("sealed session: %w", err)
	}
	return s, nil
}

// Server seals carrier as B and returns the connection to serve HTTP/2 on, and who is at the other end. It owns the
// carrier from now on, also when it fails.
func Server(ctx context.Context, carrier net.Conn, v *identity.Verifier, cert func() tls.Certificate) (net.Conn, identity.Subject, error) {
	config := v.ServerConfig(cert, Proto)
	config.DynamicRecordSizingDisabled = true
	b := newBatch(carrier)
	c := tls.Server(b, config)
	if err := handshake(ctx, c, carrier); err != nil {
		return nil, identity.Subject{}, err
	}
	peer, err := v.Subject(c.ConnectionState(), identity.RoleMember)
	if err != nil {
		carrier.Close()
		return nil, identity.Subject{}, err
	}
	return &sealed{Conn: c, batch: b, hook: func() {}}, peer, nil
}

func handshake(ctx context.Context, c *tls.Conn, carrier net.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	if err := c.HandshakeContext(ctx); err != nil {
		carrier.Close()
		return fmt.Errorf("sealed handshake: %w", err)
	}
	if got := c.ConnectionState().NegotiatedProtocol; got != Proto {
		carrier.Close()
		return fmt.Errorf("sealed handshake: the peer speaks %q", got)
	}
	return nil
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

// Open opens a flow. A status other than 200 is returned as a response, whose body the caller closes, and no Conn.
func (s *Session) Open(ctx context.Context, req *http.Request, datagrams bool) (*capsule.Conn, *http.Response, error) {
	s.mu.Lock()
	s.opening++
	s.mu.Unlock()
	c, resp, err := capsule.Open(ctx, s.cc, req, datagrams)
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

// Load reports the flows that are open or opening, and whether one of them is bulk.
func (s *Session) Load() (flows int, bulk bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.flows {
		if c.Sent()+c.Received() > BulkBytes {
			bulk = true
			break
		}
	}
	return len(s.flows) + s.opening, bulk
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
