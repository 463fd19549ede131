package hub

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ztm/apps/appstest"
	"ztm/tunnel"
	"ztm/tunnel/identity"
)

// road is a way to a hub that can be blocked.
type road struct {
	t       testing.TB
	ln      net.Listener
	to      atomic.Pointer[string] // nil: closed
	frozen  chan struct{}          // closed by freeze
	running sync.WaitGroup

	mu    sync.Mutex
	conns []net.Conn
}

func newRoad(t testing.TB) *road {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &road{t: t, ln: ln, frozen: make(chan struct{})}
	r.running.Go(r.accept)
	t.Cleanup(r.end)
	return r
}

// end closes the road and all that is on it.
func (r *road) end() {
	r.ln.Close()
	r.mu.Lock()
	for _, c := range r.conns {
		c.Close()
	}
	r.mu.Unlock()
	r.running.Wait()
}

func (r *road) address() string { return r.ln.Addr().String() }

// open lets the road lead to a hub.
func (r *road) open(h *testHub) {
	to := h.address()
	r.to.Store(&to)
}

// freeze lets nothing through any longer, and closes nothing.
func (r *road) freeze() { close(r.frozen) }

func (r *road) accept() {
	for {
		near, err := r.ln.Accept()
		if err != nil {
			return
		}
		to := r.to.Load()
		if to == nil {
			near.Close()
			continue
		}
		far, err := net.Dial("tcp", *to)
		if err != nil {
			near.Close()
			continue
		}
		r.mu.Lock()
		r.conns = append(r.conns, near, far)
		r.mu.Unlock()
		r.running.Go(func() { r.copy(far, near) })
		r.running.Go(func() { r.copy(near, far) })
	}
}

func (r *road) copy(to, from net.Conn) {
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		select {
		case <-r.frozen:
			return
		default:
		}
		if err != nil {
			to.Close()
			return
		}
		to.Write(b[:n])
	}
}

func TestASilentHubIsForgottenAndOnlyWhatGoesThroughItIsCut(t *testing.T) {
	appstest.Long(t)
	t.Parallel() // it waits, most of the time
	r := newRoad(t)
	defer r.end()
	behind := func(c *Config) { c.Names = []string{r.address()} } // all that others send to this hub takes the road
	first := start(t, atAddress(t))
	second := first.another(behind)
	third := first.another()
	r.open(second)
	first.knows([]*testHub{first, second, third})
	second.knows([]*testHub{first, second, third})

	alice, bob, carol := first.device("alice").online("alice"), second.device("bob").online("bob"), third.device("carol").online("carol")
	bob.answer(echo)
	carol.answer(echo)
	first.sees(bob.id, true)
	first.sees(carol.id, true)
	lost, kept := path(t, alice.device, bob.id), path(t, alice.device, carol.id)

	r.freeze()
	lost.SetReadDeadline(time.Now().Add(timeout))
	if _, err := lost.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the path through the silent hub: %v", err)
	}
	pingPong(t, kept)
	if err := exchange(t, alice.device, carol.id); err != nil {
		t.Errorf("a new path to another hub: %v", err)
	}
	first.sees(bob.id, false)
	wantRefusal(t, exchange(t, alice.device, bob.id), 503, "offline")
}

// path opens a path to an echo and sees that it works.
func path(t testing.TB, from *device, to identity.ID) net.Conn {
	t.Helper()
	c, err := from.carry(to, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	pingPong(t, c)
	return c
}

func pingPong(t testing.TB, c net.Conn) {
	t.Helper()
	c.SetDeadline(time.Now().Add(timeout))
	defer c.SetDeadline(time.Time{})
	if _, err := c.Write([]byte("ping")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
}

// impostor is a hub of the mesh by its certificate, and nothing else.
func (h *testHub) impostor() *device {
	h.t.Helper()
	d := h.unjoined("")
	der, err := h.ca.SignHub(publicKey(d.key), time.Now())
	if err != nil {
		h.t.Fatal(err)
	}
	d.cert = identity.TLSCertificate(der, d.key)
	return d
}

// hop asks for a hop with a header block.
func (d *device) hop(fields ...string) tunnel.Header {
	d.hub.t.Helper()
	c, err := tls.Dial("tcp", d.hub.address(), d.config(tunnel.HopProto))
	if err != nil {
		d.hub.t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(timeout))
	if err := tunnel.WriteHeader(c, fields...); err != nil {
		d.hub.t.Fatal(err)
	}
	h, err := tunnel.ReadHeader(c)
	if err != nil {
		d.hub.t.Fatal(err)
	}
	return h
}

func TestAHopGoesNoFurther(t *testing.T) {
	hubs := several(t, 2)
	first, second := hubs[0], hubs[1]
	bob := second.device("bob").online("bob")
	first.sees(bob.id, true)
	other, origin := first.impostor(), first.device("alice").id
	fields := func(hop, to, from, user string) []string {
		return []string{tunnel.FieldMethod, "CONNECT", tunnel.FieldAuthority, to, tunnel.FieldOrigin, from, tunnel.FieldUser, user, tunnel.FieldHop, hop}
	}
	for _, tt := range []struct {
		name   string
		fields []string
		status string
	}{
		{"to an endpoint of another hub", fields("1", string(bob.id), string(origin), "alice"), "421"},
		{"that has gone over a hub before", fields("2", string(bob.id), string(origin), "alice"), "508"},
		{"without a count", fields("", string(bob.id), string(origin), "alice"), "508"},
		{"to nobody", fields("1", "x", string(origin), "alice"), "400"},
		{"from nobody", fields("1", string(bob.id), "x", "alice"), "400"},
		{"of a user that cannot be", fields("1", string(bob.id), string(origin), "a b"), "400"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if h := other.hop(tt.fields...); h[tunnel.FieldStatus] != tt.status {
				t.Errorf("status %s, %s", h[tunnel.FieldStatus], h[tunnel.FieldMessage])
			}
		})
	}
}

func TestHopsOfAHubAreLimited(t *testing.T) {
	h := start(t, func(c *Config) { c.Limits.Hops = 1 })
	bob := h.device("bob").online("bob")
	bob.answer(echo)
	ask := func() (net.Conn, error) {
		relay, err := tunnel.DialRelay(t.Context(), &tunnel.Dialer{}, h.address(), h.impostor().config(tunnel.HopProto))
		if err != nil {
			t.Fatal(err)
		}
		return relay.Hop(t.Context(), bob.id, h.device("alice").id, "alice")
	}
	other := h.impostor()
	again := func() (net.Conn, error) {
		relay, err := tunnel.DialRelay(t.Context(), &tunnel.Dialer{}, h.address(), other.config(tunnel.HopProto))
		if err != nil {
			t.Fatal(err)
		}
		return relay.Hop(t.Context(), bob.id, h.device("alice").id, "alice")
	}
	one, err := again()
	if err != nil {
		t.Fatal(err)
	}
	defer one.Close()
	pingPong(t, one)
	_, err = again()
	wantRefusal(t, err, 429, "which is the limit")
	two, err := ask() // another hub has a limit of its own
	if err != nil {
		t.Fatal(err)
	}
	two.Close()
}
