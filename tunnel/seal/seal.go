// Package seal is the end-to-end session between two agents: TLS 1.3 from A's key to B's key over
// whatever carries bytes, and HTTP/2 inside. The hub does not link this package.
//
//	A                                                        B
//	Client: TLS client, checks that B's key is the ID wanted  Server: TLS server, learns A's user and ID from A's leaf
//	Session: one HTTP/2 request = one flow                    h2.Server with the agent's handler
//	Dedicated: the same for one flow that moves much, without HTTP/2
//	   └── batch: many TLS records in one system call ──────────┘
//	        └── path (relayed by a hub, a stream of a control session, a pipe)
package seal

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"ztm/tunnel/flow"
	"ztm/tunnel/h2"
	"ztm/tunnel/handshake"
	"ztm/tunnel/identity"
	"ztm/tunnel/tuning"
)

// ALPN protocols inside a path. The number is the version of what is said there: docs/protocol.md,
// section 9.
const (
	SessionProto = "ztm-session/1" // a session of many flows: HTTP/2
	OffloadProto = "ztm-offload/1" // the dedicated connection of one flow
)

// What a session is asked for, by path: see docs/protocol.md, section 6.
const (
	PathApps  = "/v1/apps/" // POST: a flow to an app
	PathAPI   = "/v1/api/"  // manages the endpoint
	PathPing  = "/v1/ping"
	PathTrust = "/v1/trust"
	PathRenew = "/v1/renew"

	PathDirect     = "/v1/direct" // POST: a round of a direct path: docs/protocol.md, section 6a
	PathDirectGo   = "/v1/direct/go"
	PathDirectEcho = "/v1/direct/echo"

	PathDatagrams   = "/v1/direct/datagrams" // POST: a round of a path for datagrams: section 6b
	PathDatagramsGo = "/v1/direct/datagrams/go"
)

// Fields of requests and answers.
const (
	FieldFlow  = "Ztm-Flow"  // the flow ID
	FieldTrust = "Ztm-Trust" // the version of the trust list, and after a dash its sum
)

// handshakeTimeout bounds the handshake; the peer may be a slow device on a slow line.
const handshakeTimeout = 15 * time.Second

// Session is A's end. It is safe for concurrent use.
type Session struct {
	peer identity.Subject // whom the handshake proved to be at the other end

	h2  *h2.Conn
	tls *tls.Conn

	mu       sync.Mutex
	flows    map[*flow.Conn]struct{} // guarded by mu
	opening  int                     // guarded by mu
	lastUsed time.Time               // guarded by mu
}

var _ flow.Session = (*Session)(nil)

// Client seals path as A towards the endpoint want. It owns the path from now on, also when it
// fails.
func Client(ctx context.Context, path net.Conn, v *identity.Verifier, cert tls.Certificate, want identity.ID) (*Session, error) {
	c, peer, err := client(ctx, path, v, cert, want, SessionProto)
	if err != nil {
		return nil, err
	}
	return &Session{peer: peer, tls: c.Conn, h2: h2.Client(c, tuning.Sealed(c.batch.meter.RTT())), flows: map[*flow.Conn]struct{}{}, lastUsed: time.Now()}, nil
}

// ClientDedicated seals path as A for one flow. It owns the path from now on, also when it fails.
func ClientDedicated(ctx context.Context, path net.Conn, v *identity.Verifier, cert tls.Certificate, want identity.ID) (*Dedicated, error) {
	c, _, err := client(ctx, path, v, cert, want, OffloadProto)
	if err != nil {
		return nil, err
	}
	return &Dedicated{c}, nil
}

func client(ctx context.Context, path net.Conn, v *identity.Verifier, cert tls.Certificate, want identity.ID, proto string) (*sealed, identity.Subject, error) {
	config := v.ClientConfig(cert, identity.RoleMember, want, proto)
	config.DynamicRecordSizingDisabled = true // what flows here is measured in megabytes or in round trips, not in first records
	b := newBatch(path)
	c := tls.Client(b, config)
	peer, err := shake(ctx, c, b, v)
	if err != nil {
		return nil, peer, err
	}
	return &sealed{Conn: c, batch: b}, peer, nil
}

// Accepted is a path that B has sealed: exactly one of Session and Dedicated is set.
type Accepted struct {
	Peer      identity.Subject
	Session   net.Conn      // to serve HTTP/2 on
	RTT       time.Duration // to the peer, as the handshake had it
	Dedicated *Dedicated    // of one flow; it begins with a header block
}

// Export implements [flow.Session] for B.
func (a Accepted) Export(context []byte, length int) ([]byte, error) {
	return export(a.Session.(*sealed).Conn, context, length)
}

// exportLabel names what the bytes are for: the keys of a path for datagrams.
const exportLabel = "EXPORTER-ztm-datagrams-1"

func export(c *tls.Conn, context []byte, length int) ([]byte, error) {
	state := c.ConnectionState()
	return state.ExportKeyingMaterial(exportLabel, context, length)
}

// Server seals path as B. It owns the path from now on, also when it fails. The handshake computes
// when it has its turn; nil: at once.
func Server(ctx context.Context, path net.Conn, v *identity.Verifier, cert func() tls.Certificate, turn *handshake.Turn) (Accepted, error) {
	config := v.ServerConfig(cert, SessionProto, OffloadProto)
	config.DynamicRecordSizingDisabled = true
	b := newBatch(path)
	b.meter.Turn = turn
	c := tls.Server(b, config)
	peer, err := shake(ctx, c, b, v)
	if err != nil {
		return Accepted{}, err
	}
	s := &sealed{Conn: c, batch: b}
	if c.ConnectionState().NegotiatedProtocol == OffloadProto {
		return Accepted{Peer: peer, Dedicated: &Dedicated{s}}, nil
	}
	return Accepted{Peer: peer, Session: s, RTT: b.meter.RTT()}, nil
}

// shake completes the handshake and returns who the peer is. It closes the path when it fails.
func shake(ctx context.Context, c *tls.Conn, b *batch, v *identity.Verifier) (identity.Subject, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	err := c.HandshakeContext(ctx)
	b.over()
	if err != nil {
		b.Conn.Close()
		return identity.Subject{}, fmt.Errorf("sealed handshake: %w", err)
	}
	peer, err := v.Subject(c.ConnectionState(), identity.RoleMember)
	if err != nil {
		b.Conn.Close()
	}
	return peer, err
}

// Done is closed when the session is over.
func (s *Session) Done() <-chan struct{} { return s.h2.Done() }

// Close ends the session and its flows at once.
func (s *Session) Close() error { return s.h2.Close() }

// Peer implements [flow.Session].
func (s *Session) Peer() identity.Subject { return s.peer }

// Export implements [flow.Session].
func (s *Session) Export(context []byte, length int) ([]byte, error) {
	return export(s.tls, context, length)
}

// Reserve implements [flow.Session].
func (s *Session) Reserve() error { return s.h2.Reserve() }

// Release implements [flow.Session].
func (s *Session) Release() { s.h2.Release() }

// Free implements [flow.Session].
func (s *Session) Free() int { return s.h2.Free() }

// Open implements [flow.Session].
func (s *Session) Open(ctx context.Context, r flow.Request) (*flow.Conn, error) {
	path := url.URL{Path: PathApps + r.Path, RawQuery: r.Query.Encode()}
	f := h2.Fields{{Name: ":method", Value: http.MethodPost}, {Name: ":scheme", Value: "https"}, {Name: ":authority", Value: "peer"},
		{Name: ":path", Value: path.RequestURI()}}
	if r.ID != "" {
		f.Add(strings.ToLower(FieldFlow), r.ID)
	}
	s.mu.Lock()
	s.opening++
	s.mu.Unlock()
	c, err := flow.Open(ctx, s.h2, f, r.Datagrams, r.Early)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opening--
	s.lastUsed = time.Now()
	if c != nil {
		s.flows[c] = struct{}{}
		c.OnEnd(func() { s.forget(c) })
	}
	return c, err
}

func (s *Session) forget(c *flow.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.flows, c)
	s.lastUsed = time.Now()
}

// RoundTrip implements [flow.Session].
func (s *Session) RoundTrip(req *http.Request) (*http.Response, error) {
	s.mu.Lock()
	s.lastUsed = time.Now()
	s.mu.Unlock()
	return s.h2.RoundTrip(req)
}

// Load implements [flow.Session].
func (s *Session) Load() (flows int, loaded bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.flows {
		if !c.Offloaded() && c.Sent()+c.Received() > flow.BulkBytes {
			loaded = true
			break
		}
	}
	return len(s.flows) + s.opening, loaded
}

// IdleSince returns when the last flow ended, or false while there is one.
func (s *Session) IdleSince() (time.Time, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lastUsed, len(s.flows)+s.opening == 0
}

// Ping implements [flow.Session].
func (s *Session) Ping(ctx context.Context) error {
	_, err := s.h2.Ping(ctx)
	return err
}

// Heard implements [flow.Session].
func (s *Session) Heard() time.Time { return s.h2.Heard() }

// RTT implements [flow.Session].
func (s *Session) RTT() time.Duration { return s.h2.RTT() }

// Err reports why the session cannot take another request; nil if it can.
func (s *Session) Err() error {
	if err := s.h2.Err(); err != nil {
		return err
	}
	if s.h2.Free() == 0 {
		return h2.ErrBusy
	}
	return nil
}
