package main

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"testing"
	"time"

	"ztm/tunnel"
	"ztm/tunnel/flow"
	"ztm/tunnel/identity"
	"ztm/tunnel/seal"
)

// intruder is a member without an agent: its certificate is good, and it says what it likes.
type intruder struct {
	w    *world
	id   identity.ID
	v    *identity.Verifier
	cert tls.Certificate
	key  ed25519.PrivateKey
}

func (w *world) intruder(user string) *intruder {
	w.t.Helper()
	return w.intruderAdmitted(user, time.Now())
}

// intruderAdmitted is intruder for a device that was admitted at a time.
func (w *world) intruderAdmitted(user string, admitted time.Time) *intruder {
	w.t.Helper()
	v, cert, key := w.forgeAdmitted(user, admitted)
	return &intruder{w, identity.IDOf(key.Public().(ed25519.PublicKey)), v, cert, key}
}

// path opens a path to an endpoint and says nothing in it.
func (i *intruder) path(ctx context.Context, to identity.ID) (net.Conn, error) {
	leg, err := tunnel.DialRelay(ctx, &tunnel.Dialer{}, i.w.address, i.v.ClientConfig(i.cert, identity.RoleHub, "", tunnel.RelayProto))
	if err != nil {
		return nil, err
	}
	return leg.Connect(ctx, to, "")
}

// dial opens a sealed session with an endpoint.
func (i *intruder) dial(ctx context.Context, to identity.ID) (*seal.Session, error) {
	path, err := i.path(ctx, to)
	if err != nil {
		return nil, err
	}
	return seal.Client(ctx, path, i.v, i.cert, to)
}

// session is a sealed session with an endpoint until the test ends.
func (i *intruder) session(t *testing.T, to identity.ID) *seal.Session {
	t.Helper()
	s, err := i.dial(t.Context(), to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// flow opens a flow to the path of an app, and returns the status of the answer. The flow lives
// until the test ends.
func (i *intruder) flow(t *testing.T, s *seal.Session, path, word string) (*flow.Conn, int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	c, err := s.Open(ctx, flow.Request{Path: path, ID: word})
	var no *flow.Refused
	switch {
	case errors.As(err, &no):
		return nil, no.Reason.Status()
	case err != nil:
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, http.StatusOK
}
