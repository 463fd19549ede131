package tunnel

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"

	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
)

// A carrier brings bytes from agent to agent through the hub. Its first leg goes like this:
//
//	agent                                         hub
//	TCP, TLS 1.3 with both certificates, ALPN ztm-relay/1
//	HEADERS :method CONNECT,                  ->
//	  :authority ID of the peer wanted              (sends a dial-back event with a ticket to that peer)
//	  or :authority own ID and ticket               (the answer to a dial-back)
//	                                          <-  HEADERS :status 200, when both legs stand
//	from here on both sides use the TCP connection itself, without TLS
//
// The hub then joins the two TCP connections in its kernel. What flows is the TLS of the sealed session.

// Fields of the header blocks.
const (
	FieldMethod    = ":method"
	FieldAuthority = ":authority"
	FieldPath      = ":path"
	FieldStatus    = ":status"
	FieldTicket    = "ticket"
	FieldError     = "error"
	FieldMessage   = "message"
	FieldRequest   = "request"     // a join request, JSON in base64
	FieldCert      = "certificate" // the answer to it, DER in base64
)

// CarrierTimeout is how long the opening side waits for its peer.
const CarrierTimeout = 15 * time.Second

// SpareTime is how long a hub waits for the header block of a leg. An agent may so keep one ready for the next carrier.
const SpareTime = time.Minute

// Leg is a connection to a hub that is to become a carrier: the handshake is over, nothing was asked yet. It is used once, by Carry or
// Close, by one goroutine.
type Leg struct {
	c   *tls.Conn
	raw net.Conn // below c
}

// OpenLeg connects to a hub. config must offer RelayProto alone.
func OpenLeg(ctx context.Context, d *Dialer, address string, config *tls.Config) (*Leg, error) {
	ctx, cancel := context.WithTimeout(ctx, CarrierTimeout)
	defer cancel()
	c, below, err := dialTLS(ctx, d, address, config)
	if err != nil {
		return nil, err
	}
	return &Leg{c, below.Conn}, nil
}

// Close ends a leg that is not wanted.
func (l *Leg) Close() error { return l.raw.Close() }

// Carry makes a carrier of the leg: to the endpoint peer, or, where ticket is not empty, as the answer to a dial-back (peer is then
// the endpoint's own ID). A hub's "no" is a *[answer.Error].
func (l *Leg) Carry(ctx context.Context, peer identity.ID, ticket string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, CarrierTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { l.raw.SetDeadline(time.Unix(1, 0)) })
	err := carry(l.c, peer, ticket)
	if !stop() {
		err = errors.Join(context.Cause(ctx), err)
	}
	if err != nil {
		l.raw.Close()
		return nil, err
	}
	l.raw.SetDeadline(time.Time{})
	Unhurried(l.raw)
	return l.raw, nil // TLS is dropped, without a close_notify: the hub dropped it too
}

func carry(c *tls.Conn, peer identity.ID, ticket string) error {
	fields := []string{FieldMethod, "CONNECT", FieldAuthority, string(peer)}
	if ticket != "" {
		fields = append(fields, FieldTicket, ticket)
	}
	if err := WriteHeader(c, fields...); err != nil {
		return fmt.Errorf("ask for a carrier: %w", err)
	}
	h, err := ReadHeader(c)
	if err != nil {
		return fmt.Errorf("ask for a carrier: %w", err)
	}
	return h.Err()
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
