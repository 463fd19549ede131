package hub

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"ztm/apps/appstest"
	"ztm/tunnel"
)

// zone is what is known of the addresses of hosts.
type zone struct {
	mu    sync.Mutex
	names map[string][]string
}

func (z *zone) set(name string, to ...string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.names[name] = to
}

// asked is an option: the hub asks the zone.
func (z *zone) asked(c *Config) {
	c.lookup = func(_ context.Context, _, host string) (out []netip.Addr, err error) {
		z.mu.Lock()
		defer z.mu.Unlock()
		for _, a := range z.names[host] {
			out = append(out, netip.MustParseAddr(a))
		}
		return out, nil
	}
}

// listensAt is an option: the hub listens on an address and has names.
func listensAt(address string, names ...string) func(*Config) {
	return func(c *Config) { c.Listen, c.Names, c.Peers = address, names, names }
}

func TestHubsBehindOneNameFindEachOther(t *testing.T) {
	_, port, err := net.SplitHostPort(appstest.FreeAddress(t))
	if err != nil {
		t.Fatal(err)
	}
	at := func(host string) string { return net.JoinHostPort(host, port) }
	if ln, err := net.Listen("tcp", at("127.0.0.7")); err != nil {
		t.Skipf("this system has one loopback address: %v", err)
	} else {
		ln.Close()
	}
	z := &zone{names: map[string][]string{"mesh.test": {"127.0.0.7", "127.0.0.8"}}}
	name := at("mesh.test")
	first := start(t, listensAt(at("127.0.0.7"), name), z.asked)
	second := first.another(listensAt(at("127.0.0.8"), name), z.asked)
	both := []*testHub{first, second}
	first.knows(both)
	second.knows(both)

	// The second one moves to another address, and no one else is told but the name server.
	if err := second.stop(); err != nil {
		t.Fatal(err)
	}
	z.set("mesh.test", "127.0.0.7", "127.0.0.9")
	moved := startWith(t, first.ca, second.config.Data, func(c *Config) {
		c.Listen, c.Names, c.Permit = at("127.0.0.9"), nil, ""
	}, z.asked)
	first.knows(both)
	moved.knows(both)
	alice, bob := first.device("alice").online("alice"), moved.device("bob").online("bob")
	bob.answer(echo)
	first.sees(bob.id, true)
	if err := exchange(t, alice.device, bob.id); err != nil {
		t.Error(err)
	}
}

// bySNI passes connections on to the place of the host that their handshakes name, and knows nothing
// else of them.
func bySNI(t *testing.T, places map[string]string) (address string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	ctx, stop := context.WithCancel(context.Background())
	running.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer c.Close()
				defer context.AfterFunc(ctx, func() { c.Close() })()
				passBySNI(c, places)
			})
		}
	})
	t.Cleanup(func() { ln.Close(); stop(); running.Wait() })
	return ln.Addr().String()
}

var errRead = errors.New("the name is known")

func passBySNI(near net.Conn, places map[string]string) {
	var seen strings.Builder
	host := ""
	tls.Server(readOnly{near, io.TeeReader(near, &seen)}, &tls.Config{GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		host = h.ServerName
		return nil, errRead
	}}).Handshake()
	far, err := net.Dial("tcp", places[host])
	if err != nil {
		return
	}
	defer far.Close()
	io.WriteString(far, seen.String())
	var back sync.WaitGroup
	back.Go(func() {
		io.Copy(near, far)
		near.Close()
	})
	io.Copy(far, near)
	far.Close()
	back.Wait()
}

// readOnly is a connection that is looked at before it is passed on.
type readOnly struct {
	net.Conn
	r io.Reader
}

func (c readOnly) Read(b []byte) (int, error)  { return c.r.Read(b) }
func (c readOnly) Write(b []byte) (int, error) { return len(b), nil }

func TestHubsBehindAProxyThatChoosesByNameAreReachedByTheirs(t *testing.T) {
	z := &zone{names: map[string][]string{"hub1.test": {"127.0.0.1"}, "hub2.test": {"127.0.0.1"}}}
	one, two := appstest.FreeAddress(t), appstest.FreeAddress(t)
	proxy := bySNI(t, map[string]string{"hub1.test": one, "hub2.test": two})
	_, port, err := net.SplitHostPort(proxy)
	if err != nil {
		t.Fatal(err)
	}
	first := start(t, func(c *Config) { c.Listen, c.Names = one, []string{"hub1.test:" + port} }, z.asked)
	second := first.another(func(c *Config) {
		c.Listen, c.Names, c.Peers = two, []string{"hub2.test:" + port}, []string{"hub1.test:" + port}
	}, z.asked)
	both := []*testHub{first, second}
	first.knows(both)
	second.knows(both)

	// An agent dials the proxy, and is at the hub that it named.
	for _, h := range both {
		d := h.device("bob")
		config := d.config(tunnel.ControlProto)
		config.ServerName, _, _ = net.SplitHostPort(h.started.Names[0]) // as if the proxy had been found by that name
		s, err := tunnel.Open(t.Context(), &tunnel.Dialer{}, proxy, config)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		var status tunnel.HubStatus
		if err := s.Call(t.Context(), "GET", tunnel.PathHub, nil, nil, &status); err != nil || status.ID != h.started.ID {
			t.Errorf("it is at hub %s, %v", status.ID, err)
		}
	}

	alice, bob := first.device("alice").online("alice"), second.device("bob").online("bob")
	bob.answer(echo)
	first.sees(bob.id, true)
	if err := exchange(t, alice.device, bob.id); err != nil {
		t.Error(err)
	}
}
