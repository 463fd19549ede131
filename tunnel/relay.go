package tunnel

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"time"

	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
)

// A relayed path brings bytes from agent to agent through the hub. Each agent's end of it goes like
// this:
//
//	agent                                         hub
//	TCP, TLS 1.3 with both certificates, ALPN ztm-relay/1
//	HEADERS :method CONNECT,                  ->
//	  :authority ID of the peer wanted              (sends a dial-back event with a ticket to that peer)
//	  or :authority own ID and ticket               (the answer to a dial-back)
//	                                          <-  HEADERS :status 200, when both ends stand
//	from here on both sides use the TCP connection itself, without TLS
//
// The hub then joins the two TCP connections in its kernel. What flows is the TLS of the sealed
// session.

// Fields of the header blocks.
const (
	FieldMethod    = ":method"
	FieldAuthority = ":authority"
	FieldPath      = ":path"
	FieldStatus    = ":status"
	FieldTicket    = "ticket"
	FieldSeen      = "seen" // of a 200: the address and port at which the hub sees this end
	FieldNear      = "near" // of a 200: "1" if the hub sees both ends at one address
	FieldError     = "error"
	FieldMessage   = "message"
	FieldRequest   = "request"     // a join request, JSON in base64
	FieldCert      = "certificate" // the answer to it, DER in base64
)

// RelayTimeout is how long the opening side waits for its peer.
const RelayTimeout = 15 * time.Second

// StandbyTime is how long a hub waits for the header block of a relay connection. An agent may so
// keep one ready for the next path.
const StandbyTime = time.Minute

// Relay is a connection to a hub that is to become a path to a peer: the handshake is over, nothing
// was asked yet. It is used once, by Connect or Close, by one goroutine.
type Relay struct {
	c       *tls.Conn
	raw     net.Conn // below c
	proxied bool     // the hub sees a proxy
}

// DialRelay connects to a hub. config must offer [RelayProto] alone.
func DialRelay(ctx context.Context, d *Dialer, address string, config *tls.Config) (*Relay, error) {
	ctx, cancel := context.WithTimeout(ctx, RelayTimeout)
	defer cancel()
	c, below, err := dialTLS(ctx, d, address, config)
	if err != nil {
		return nil, err
	}
	return &Relay{c, below.Conn, !d.Direct(address)}, nil
}

// DialRelay is [DialRelay] to the hub of the session: behind one name there may be several.
func (s *Session) DialRelay(ctx context.Context, d *Dialer, config *tls.Config) (*Relay, error) {
	if s.at == "" {
		return DialRelay(ctx, d, s.address, config)
	}
	config = config.Clone()
	config.ServerName, _, _ = net.SplitHostPort(s.address) // for a proxy that several hubs are behind
	return DialRelay(ctx, &Dialer{}, s.at, config)
}

// Close ends a connection that is not wanted.
func (r *Relay) Close() error { return r.raw.Close() }

// Connect makes a path of the connection: to the endpoint peer, or, where ticket is not empty, as
// the answer to a dial-back (peer is then the endpoint's own ID). A hub's "no" is an
// *[answer.Error]. The path is a *[Leg] where it can be.
func (r *Relay) Connect(ctx context.Context, peer identity.ID, ticket string) (net.Conn, error) {
	fields := []string{FieldMethod, "CONNECT", FieldAuthority, string(peer)}
	if ticket != "" {
		fields = append(fields, FieldTicket, ticket)
	}
	raw, h, err := r.connect(ctx, fields)
	tcp, ok := raw.(*net.TCPConn)
	if err != nil || !ok {
		return raw, err
	}
	l := &Leg{TCPConn: tcp}
	if !r.proxied {
		l.Seen, _ = netip.ParseAddrPort(h[FieldSeen])
		l.Near = h[FieldNear] == "1"
	}
	return l, nil
}

// Hop makes a path of a connection that was dialled with [HopProto]: to an endpoint that is
// attached to the other hub. A hub's "no" is an *[answer.Error].
func (r *Relay) Hop(ctx context.Context, target, origin identity.ID, user string) (net.Conn, error) {
	raw, _, err := r.connect(ctx, []string{FieldMethod, "CONNECT", FieldAuthority, string(target),
		FieldOrigin, string(origin), FieldUser, user, FieldHop, "1"})
	return raw, err
}

// connect makes a path of the connection, and returns what the hub says of it.
func (r *Relay) connect(ctx context.Context, fields []string) (raw net.Conn, h Header, err error) {
	ctx, cancel := context.WithTimeout(ctx, RelayTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { r.raw.SetDeadline(time.Unix(1, 0)) })
	h, err = connect(r.c, fields)
	if !stop() {
		err = errors.Join(context.Cause(ctx), err)
	}
	if err != nil {
		r.raw.Close()
		return nil, nil, err
	}
	r.raw.SetDeadline(time.Time{})
	Unhurried(r.raw)
	return r.raw, h, nil // TLS is dropped, without a close_notify: the hub dropped it too
}

// Leg is an end of a relayed path that is a TCP connection.
type Leg struct {
	*net.TCPConn

	// Seen is where the hub says that it sees the connection: it may lie. It is the zero value where
	// the hub does not say, and behind a proxy.
	Seen netip.AddrPort

	// Near is that the hub sees both ends of the path at one address: the two are behind one NAT. It
	// is false where one hub does not see both, and behind a proxy.
	Near bool
}

// Port is the port of this end.
func (l *Leg) Port() uint16 { return uint16(l.LocalAddr().(*net.TCPAddr).Port) }

// connect asks the hub for a path, and returns its answer.
func connect(c *tls.Conn, fields []string) (Header, error) {
	if err := WriteHeader(c, fields...); err != nil {
		return nil, fmt.Errorf("ask the hub for a path: %w", err)
	}
	h, err := ReadHeader(c)
	if err != nil {
		return nil, fmt.Errorf("ask the hub for a path: %w", err)
	}
	return h, h.Err()
}

// Err returns nil for an answer with status 200, and an *[answer.Error] for any other.
func (h Header) Err() error {
	status, err := strconv.Atoi(h[FieldStatus])
	if err != nil {
		return fmt.Errorf("the hub's answer has the status %q", h[FieldStatus])
	}
	if status == 200 {
		return nil
	}
	return &answer.Error{Code: answer.Code(h[FieldError]), Message: h[FieldMessage]}
}

// WriteError answers with a "no".
func WriteError(w io.Writer, e *answer.Error) error {
	return WriteHeader(w, FieldStatus, strconv.Itoa(e.Status()), FieldError, string(e.Code), FieldMessage, e.Message)
}
