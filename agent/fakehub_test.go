package agent

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"ztm/agent/authority"
	"ztm/tunnel"
	"ztm/tunnel/answer"
	"ztm/tunnel/h2"
	"ztm/tunnel/identity"
	"ztm/tunnel/relaytest"
	"ztm/tunnel/tuning"
	"ztm/tunnel/unixtime"
)

// fakeHub does what a test wants. It takes records, says that it is ready, has an empty directory,
// and relays streams of the control session.
type fakeHub struct {
	address string
	streams *relaytest.Streams

	mu       sync.Mutex
	handlers map[string]http.HandlerFunc // by "METHOD PATH", in place of its own; guarded by mu
	refusal  error                       // why it takes no trust list; guarded by mu
	trust    []byte                      // the list it has; guarded by mu
}

// newFakeHub starts a hub of a mesh.
func newFakeHub(t *testing.T, ca *identity.CA) *fakeHub {
	t.Helper()
	key, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	der, err := ca.SignHub(key.Public().(ed25519.PublicKey), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	trust, err := identity.NewTrust(ca.CertificatePEM())
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &fakeHub{address: ln.Addr().String(), streams: relaytest.New(), handlers: map[string]http.HandlerFunc{}}
	own := identity.TLSCertificate(der, key)
	verifier := identity.NewVerifier(trust, identity.NewClock())
	config := verifier.ServerConfig(func() tls.Certificate { return own }, tunnel.ControlProto)
	server := h2.NewServer(h, tuning.Hub)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			raw, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				c := tls.Server(raw, config)
				if c.HandshakeContext(t.Context()) != nil {
					raw.Close()
					return
				}
				peer, err := verifier.Subject(c.ConnectionState(), identity.RoleMember)
				if err != nil {
					raw.Close()
					return
				}
				server.Serve(&h2.Tagged{Conn: c, Tag: peer.ID})
			})
		}
	})
	t.Cleanup(func() { ln.Close(); server.Close(); wg.Wait() })
	return h
}

// on has the hub answer a request in another way.
func (h *fakeHub) on(request string, handle http.HandlerFunc) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.handlers[request] = handle
}

// refuse has the hub refuse all trust lists; nil has it take them.
func (h *fakeHub) refuse(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.refusal = err
}

// list is the trust list that the hub has.
func (h *fakeHub) list() []byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.trust
}

func (h *fakeHub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	request := r.Method + " " + r.URL.Path
	h.mu.Lock()
	handle := h.handlers[request]
	h.mu.Unlock()
	if handle != nil {
		handle(w, r)
		return
	}
	if r.Method == http.MethodConnect {
		h.streams.Connect(w, r)
		return
	}
	switch request {
	case "GET " + tunnel.PathEvents:
		h.streams.Events(w, r, nil)
	case "GET " + tunnel.PathEndpoints:
		answer.JSON(w, tunnel.Page{})
	case "GET " + tunnel.PathHub:
		answer.JSON(w, tunnel.HubStatus{Time: unixtime.Of(time.Now())})
	case "GET " + tunnel.PathTrust:
		w.Write(h.list())
	case "POST " + tunnel.PathTrust:
		h.postTrust(w, r)
	}
}

func (h *fakeHub) postTrust(w http.ResponseWriter, r *http.Request) {
	doc, err := io.ReadAll(r.Body)
	h.mu.Lock()
	defer h.mu.Unlock()
	if err == nil {
		err = h.refusal
	}
	if err == nil {
		h.trust = doc
	}
	answer.Reply(w, slog.New(slog.DiscardHandler), nil, err)
}

// setHubs says where the hubs are.
func setHubs(t *testing.T, m *mesh, addresses []string) {
	t.Helper()
	if err := m.Save(func(r *authority.Row) { r.Hubs = addresses }); err != nil {
		t.Fatal(err)
	}
}

// runMesh runs a mesh with these hubs until the test ends, and waits until it is connected.
func runMesh(t *testing.T, m *mesh, hubs ...*fakeHub) {
	t.Helper()
	var addresses []string
	for _, h := range hubs {
		addresses = append(addresses, h.address)
	}
	setHubs(t, m, addresses)
	ctx, cancel := context.WithCancel(context.Background())
	delete(m.agent.meshes, m.name) // it ends here, not with the agent
	go m.run(ctx)                  // ends with ctx; awaited below
	t.Cleanup(func() { cancel(); <-m.ended })
	if _, _, err := m.control.Session(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// until waits for a condition, for half a minute at most.
func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	deadline := time.NewTimer(90 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !f() {
		select {
		case <-deadline.C:
			t.Fatalf("never true: %s", what)
		case <-tick.C:
		}
	}
}

var errNo = errors.New("no")
