package tunnel

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"testing"

	"ztm/tunnel/identity"
)

// TestRejected: whoever is not let in hears so, however the end of the connection and HTTP/2's
// first words cross.
func TestRejected(t *testing.T) {
	f := newFixture(t)
	ln := listen(t)
	go func() { // ends with the listener
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			tls.Server(c, f.verifier.ServerConfig(func() tls.Certificate { return f.hub }, ControlProto)).Handshake()
			c.Close()
		}
	}()
	for range 50 {
		// A hub's certificate is none that a member may show.
		config := f.verifier.ClientConfig(f.hub, identity.RoleHub, "", ControlProto)
		if err := ask(ln.Addr(), config); !errors.Is(err, ErrRejected) {
			t.Fatalf("got %v, want ErrRejected", err)
		}
	}
}

// ask opens a session and sends a request.
func ask(address net.Addr, config *tls.Config) error {
	s, err := Open(context.Background(), &Dialer{}, address.String(), config)
	if err != nil {
		return err
	}
	defer s.Close()
	return s.Call(context.Background(), http.MethodGet, PathTrust, nil, nil, nil)
}
