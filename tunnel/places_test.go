package tunnel

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"ztm/tunnel/identity"
	"ztm/tunnel/identity/identitytest"
)

// startPlace accepts connections, and gives each to serve, until the test ends.
func startPlace(t *testing.T, serve func(net.Conn)) string {
	ln := listen(t)
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { serve(c) })
		}
	})
	t.Cleanup(func() { ln.Close(); serving.Wait() })
	return ln.Addr().String()
}

func TestAHubBehindANameIsFoundBesideOthersThatAnswerOrDoNot(t *testing.T) {
	m := identitytest.New(t, time.Now())
	v, member, other, wanted := m.Verifier(), m.Member("bob"), m.Hub(), m.Hub()
	hub := func(as tls.Certificate) string {
		return startPlace(t, func(c net.Conn) {
			tls.Server(c, v.ServerConfig(func() tls.Certificate { return as }, ControlProto)).Handshake()
			c.Read(make([]byte, 1)) // until the client goes
			c.Close()
		})
	}
	silent := startPlace(t, func(c net.Conn) {
		for b := make([]byte, 4096); ; {
			if _, err := c.Read(b); err != nil {
				c.Close()
				return
			}
		}
	})
	config := v.ClientConfig(member.Cert, identity.RoleHub, wanted.ID, ControlProto)
	for _, places := range [][]string{{hub(other.Cert), hub(wanted.Cert)}, {silent, hub(wanted.Cert)}, {"127.0.0.1:1", silent, hub(other.Cert), hub(wanted.Cert)}} {
		ctx, cancel := context.WithTimeout(t.Context(), HandshakeTimeout/2)
		c, _, err := reach(ctx, &Dialer{}, places, config)
		cancel()
		if err != nil {
			t.Errorf("%v", err)
			continue
		}
		c.NetConn().Close()
	}
	if _, _, err := reach(t.Context(), &Dialer{}, []string{hub(other.Cert), hub(other.Cert)}, config); !errors.Is(err, identity.ErrWrongID) {
		t.Errorf("where it is not: %v", err)
	}
}

func TestAHubThatNoProxyIsForIsDialledDirectlyWhereverItsNameLeads(t *testing.T) {
	m := identitytest.New(t, time.Now())
	v, member, hub := m.Verifier(), m.Member("bob"), m.Hub()
	place := startPlace(t, func(c net.Conn) {
		tls.Server(c, v.ServerConfig(func() tls.Certificate { return hub.Cert }, ControlProto)).Handshake()
		c.Read(make([]byte, 1)) // until the client goes
		c.Close()
	})
	_, port, _ := net.SplitHostPort(place)
	proxy, err := ParseProxy("http://127.0.0.1:1") // nobody is there
	if err != nil {
		t.Fatal(err)
	}
	proxy.except = exceptions("localhost")
	c, _, err := dialTLS(t.Context(), &Dialer{Proxy: proxy}, net.JoinHostPort("localhost", port), v.ClientConfig(member.Cert, identity.RoleHub, hub.ID, ControlProto))
	if err != nil {
		t.Fatal(err)
	}
	c.NetConn().Close()
}

func TestPlacesOfANameAreBounded(t *testing.T) {
	many := make([]netip.Addr, 100)
	for i := range many {
		many[i] = netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})
	}
	many[1] = netip.MustParseAddr("::ffff:192.0.2.7")
	got, err := Places(t.Context(), func(context.Context, string, string) ([]netip.Addr, error) { return many, nil }, "hub.example.com:443")
	if err != nil || len(got) != mostPlaces || !slices.Equal(got[:2], []string{"10.0.0.0:443", "192.0.2.7:443"}) {
		t.Errorf("%v, %v", got, err)
	}
}
