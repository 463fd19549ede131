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
	c   *tls.Conn
	raw net.Conn // below c
}

// DialRelay connects to a hub. config must offer [RelayProto] alone.
func DialRelay(ctx context.Context, d *Dialer, address string, config *tls.Config) (*Relay, error) {
	ctx, cancel := context.WithTimeout(ctx, RelayTimeout)
	defer cancel()
	c, below, err := dialTLS(ctx, d, address, config)
	if err != nil {
		return nil, err
	}
	return &Relay{c, below.Conn}, nil
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
// *[answer.Error].
func (r *Relay) Connect(ctx context.Context, peer identity.ID, ticket string) (net.Conn, error) {
	fields := []string{FieldMethod, "CONNECT", FieldAuthority, string(peer)}
	if ticket != "" {
		fields = append(fields, FieldTicket, ticket)
	}
	return r.connect(ctx, fields)
}

// Hop makes a path of a connection that was dialled with [HopProto]: to an endpoint that is
// attached to the other hub. A hub's "no" is an *[answer.Error].
func (r *Relay) Hop(ctx context.Context, target, origin identity.ID, user string) (net.Conn, error) {
	return r.connect(ctx, []string{FieldMethod, "CONNECT", FieldAuthority, string(target),
		FieldOrigin, string(origin), FieldUser, user, FieldHop, "1"})
}

func (r *Relay) connect(ctx context.Context, fields []string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, RelayTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { r.raw.SetDeadline(time.Unix(1, 0)) })
	seen, err := connect(r.c, fields)
	if !stop() {
		err = errors.Join(context.Cause(ctx), err)
	}
	if err != nil {
		r.raw.Close()
		return nil, err
	}
	r.raw.SetDeadline(time.Time{})
	Unhurried(r.raw)
	// TLS is dropped, without a close_notify: the hub dropped it too.
	if tcp, ok := r.raw.(*net.TCPConn); ok && seen.IsValid() {
		return &Leg{tcp, seen}, nil
	}
	return r.raw, nil
}

// Leg is an end of a relayed path that is a TCP connection of which the hub has said where it sees
// it.
type Leg struct {
	*net.TCPConn
	Seen netip.AddrPort // what the hub says; it may lie
}

// connect returns where the hub sees the connection; the zero value if it does not say.
func connect(c *tls.Conn, fields []string) (seen netip.AddrPort, err error) {
	if err := WriteHeader(c, fields...); err != nil {
		return seen, fmt.Errorf("ask the hub for a path: %w", err)
	}
	h, err := ReadHeader(c)
	if err != nil {
		return seen, fmt.Errorf("ask the hub for a path: %w", err)
	}
	seen, _ = netip.ParseAddrPort(h[FieldSeen])
	return seen, h.Err()
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
