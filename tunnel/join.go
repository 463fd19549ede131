package tunnel

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"
)

// JoinTimeout is how long a joining device waits for a holder of the CA key.
const JoinTimeout = 30 * time.Second

// Join asks a hub for membership by a token. config must offer identity.JoinProto alone, present a
// self-signed certificate of the key in req, and verify the hub's certificate. It returns the new
// certificate in DER, which the caller verifies.
func Join(ctx context.Context, d *Dialer, address string, config *tls.Config, req JoinRequest) ([]byte, error) {
	j, err := DialJoin(ctx, d, address, config)
	if err != nil {
		return nil, err
	}
	return j.Ask(ctx, req)
}

// Joining is a connection with a hub on which a device is about to ask for membership.
type Joining struct {
	c   *tls.Conn
	raw *RecordConn
}

// DialJoin is the first half of [Join]. The caller calls Ask or Close.
func DialJoin(ctx context.Context, d *Dialer, address string, config *tls.Config) (*Joining, error) {
	c, raw, err := dialTLS(ctx, d, address, config)
	if err != nil {
		return nil, err
	}
	return &Joining{c, raw}, nil
}

// Close ends a connection that is not wanted.
func (j *Joining) Close() error { return j.raw.Close() }

// Ask is the second half of [Join]. It ends the connection.
func (j *Joining) Ask(ctx context.Context, req JoinRequest) ([]byte, error) {
	c, raw := j.c, j.raw
	ctx, cancel := context.WithTimeout(ctx, JoinTimeout)
	defer cancel()
	defer raw.Close()
	defer context.AfterFunc(ctx, func() { raw.SetDeadline(time.Unix(1, 0)) })()
	b, err := json.Marshal(req)
	if err != nil {
		return nil, err
	}
	if err := WriteHeader(c, FieldMethod, "POST", FieldPath, "/v1/join", FieldRequest, base64.StdEncoding.EncodeToString(b)); err != nil {
		return nil, fmt.Errorf("join: %w", err)
	}
	h, err := ReadHeader(c)
	if err != nil {
		return nil, fmt.Errorf("join: %w", err)
	}
	if err := h.Err(); err != nil {
		return nil, err
	}
	der, err := base64.StdEncoding.DecodeString(h[FieldCert])
	if err != nil {
		return nil, fmt.Errorf("join: the hub's answer: %v", err)
	}
	return der, nil
}
