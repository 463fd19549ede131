package tunnel

import (
	"context"
	"crypto/tls"
	"errors"
	"strings"
	"testing"

	"ztm/tunnel/identity"
)

func TestAHubOfAnotherVersionIsToldApart(t *testing.T) {
	f := newFixture(t)
	ln := listen(t)
	ended := make(chan error, 1)
	go func() {
		raw, err := ln.Accept()
		if err == nil {
			err = tls.Server(raw, f.verifier.ServerConfig(func() tls.Certificate { return f.hub }, "ztm-control/2")).Handshake()
			raw.Close()
		}
		ended <- err
	}()
	config := f.verifier.ClientConfig(f.member, identity.RoleHub, "", ControlProto)
	_, err := Open(context.Background(), &Dialer{}, ln.Addr().String(), config)
	if !errors.Is(err, ErrVersion) || !strings.Contains(err.Error(), ControlProto) {
		t.Errorf("the agent says %v", err)
	}
	if <-ended == nil {
		t.Error("the hub accepts a version that it does not speak")
	}
}
