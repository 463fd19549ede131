package hub

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ztm/apps/appstest"
	"ztm/hub/state"
	"ztm/tunnel"
	"ztm/tunnel/h2"
	"ztm/tunnel/identity"
	"ztm/tunnel/tuning"
	"ztm/tunnel/unixtime"
)

// several starts hubs of one mesh that know of each other: each is told the address of the first.
func several(t testing.TB, n int, options ...func(*Config)) []*testHub {
	t.Helper()
	first := start(t, append(options, atAddress(t))...)
	hubs := []*testHub{first}
	for len(hubs) < n {
		hubs = append(hubs, first.another(options...))
	}
	for _, h := range hubs {
		h.knows(hubs)
	}
	return hubs
}

// another starts one more hub of the mesh, that is told the address of h.
func (h *testHub) another(options ...func(*Config)) *testHub {
	h.t.Helper()
	return h.anotherIn(h.t.TempDir(), options...)
}

func (h *testHub) anotherIn(dir string, options ...func(*Config)) *testHub {
	h.t.Helper()
	permit := h.hubPermit(dir, h.address())
	more := []func(*Config){atAddress(h.t), func(c *Config) { c.Permit = permit }}
	return startWith(h.t, h.ca, dir, slices.Concat(more, options)...)
}

// hubPermit makes a permit for the hub in a directory, which is told where to find another one.
func (h *testHub) hubPermit(dir string, peers ...string) (path string) {
	h.t.Helper()
	st, err := state.Open(dir, testLog(h.t))
	if err != nil {
		h.t.Fatal(err)
	}
	key := mustKey(h.t, st)
	if err := st.Close(); err != nil {
		h.t.Fatal(err)
	}
	der, err := h.ca.SignHub(key, time.Now())
	if err != nil {
		h.t.Fatal(err)
	}
	p := identity.Permit{
		Mesh: h.ca.Mesh(), CA: string(h.ca.CertificatePEM()), Bootstraps: peers,
		Hub: &identity.PermitHub{Certificate: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))},
	}
	b, err := p.Marshal()
	if err != nil {
		h.t.Fatal(err)
	}
	path = filepath.Join(h.t.TempDir(), "hub.json")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		h.t.Fatal(err)
	}
	return path
}

// atAddress is an option: the hub's name is its address, so that other hubs find it by its record.
func atAddress(t testing.TB) func(*Config) {
	address := appstest.FreeAddress(t)
	return func(c *Config) { c.Listen, c.Names = address, []string{address} }
}

// hubs returns what a hub says of all hubs.
func (h *testHub) hubs() tunnel.Hubs {
	h.t.Helper()
	var all tunnel.Hubs
	if err := h.device("looker").session().Call(h.t.Context(), "GET", tunnel.PathHubs, nil, nil, &all); err != nil {
		h.t.Fatal(err)
	}
	return all
}

// knows waits until a hub is linked with all others.
func (h *testHub) knows(hubs []*testHub) {
	h.t.Helper()
	looker := h.device("looker").session()
	eventually(h.t, "all hubs are linked", func() bool {
		var all tunnel.Hubs
		if err := looker.Call(h.t.Context(), "GET", tunnel.PathHubs, nil, nil, &all); err != nil {
			h.t.Fatal(err)
		}
		online := 0
		for _, e := range all.Hubs {
			if e.Online {
				online++
			}
		}
		return online == len(hubs)
	})
}

// sees waits until an endpoint is online or offline in the listing of a hub.
func (h *testHub) sees(id identity.ID, online bool) tunnel.Entry {
	h.t.Helper()
	looker := h.device("looker").session()
	var e tunnel.Entry
	eventually(h.t, "the hub sees the endpoint", func() bool {
		e = tunnel.Entry{}
		looker.Call(h.t.Context(), "GET", tunnel.PathEndpoints+"/"+string(id), nil, nil, &e)
		return e.Online == online && (!online || len(e.Record) > 0)
	})
	return e
}

// exchange sends bytes through a path to an echo.
func exchange(t testing.TB, from *device, to identity.ID) error {
	t.Helper()
	c, err := from.carry(to, "")
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(timeout))
	if _, err := c.Write([]byte("hello")); err != nil {
		return err
	}
	b := make([]byte, 5)
	if _, err := io.ReadFull(c, b); err != nil {
		return err
	}
	if string(b) != "hello" {
		t.Errorf("got %q", b)
	}
	return nil
}

func TestAgentsOfThreeHubsReachEachOther(t *testing.T) {
	hubs := several(t, 3)
	var agents []*online
	for i, h := range hubs {
		o := h.device("bob").online("ep" + string(rune('1'+i)))
		o.answer(echo)
		agents = append(agents, o)
	}
	for _, from := range agents {
		for _, to := range agents {
			e := from.hub.sees(to.id, true)
			if len(e.Hubs) != 1 || e.Hubs[0] != to.hub.started.ID {
				t.Errorf("%s is said to be on %v", to.id, e.Hubs)
			}
			if err := exchange(t, from.device, to.id); err != nil {
				t.Errorf("from hub %s to hub %s: %v", from.hub.started.ID, to.hub.started.ID, err)
			}
		}
	}
}

func TestAHubPermitIsForOneHubAndHoldsNoCAKey(t *testing.T) {
	first := start(t, atAddress(t))
	dir := t.TempDir()
	second := first.anotherIn(dir)
	second.knows([]*testHub{first, second})
	if err := second.stop(); err != nil {
		t.Fatal(err)
	}
	if key := first.ca.KeyPEM(); bytes.Contains(read(t, dir, "hub.db"), bytes.Split(key, []byte("\n"))[1]) {
		t.Error("the CA key is in the database of another hub")
	}
	for name, c := range map[string]Config{
		"is for another hub": {Permit: first.hubPermit(t.TempDir(), first.address()), Names: []string{"h:1"}},
		"no CA key to keep":  {Permit: first.hubPermit(dir, first.address()), Names: []string{"h:1"}, KeepCA: true},
	} {
		c.Data, c.Listen = t.TempDir(), "127.0.0.1:0"
		if c.KeepCA {
			c.Permit = first.hubPermit(c.Data, first.address())
		}
		h, err := New(c)
		if err != nil {
			t.Fatal(err)
		}
		if err := h.Run(t.Context()); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestANewPermitOfAHubBringsACertificateAfterTheOldOneExpired(t *testing.T) {
	first := start(t, atAddress(t))
	dir := t.TempDir()
	second := first.anotherIn(dir)
	if err := second.stop(); err != nil {
		t.Fatal(err)
	}
	st, err := state.Open(dir, testLog(t))
	if err != nil {
		t.Fatal(err)
	}
	old, err := first.ca.SignHub(mustKey(t, st), time.Now().Add(-10*time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	err = st.Change(func(me *state.Self) { me.Certificate = old })
	if err = errors.Join(err, st.Close()); err != nil {
		t.Fatal(err)
	}
	permit := first.hubPermit(dir, first.address())
	again := startWith(t, first.ca, dir, func(c *Config) { c.Listen, c.Permit = second.config.Listen, permit })
	again.knows([]*testHub{first, again})
	if err := again.stop(); err != nil {
		t.Fatal(err)
	}
	st, err = state.Open(dir, testLog(t))
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	if me, _, err := st.Self(); err != nil || bytes.Equal(me.Certificate, old) {
		t.Errorf("it has the old certificate, %v", err)
	}
}

func mustKey(t testing.TB, st *state.State) ed25519.PublicKey {
	t.Helper()
	text, err := st.Identity()
	if err != nil {
		t.Fatal(err)
	}
	key, err := identity.ParsePublicKey(text)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestAHubRemembersTheOthers(t *testing.T) {
	hubs := several(t, 2)
	second := hubs[1]
	if err := second.stop(); err != nil {
		t.Fatal(err)
	}
	again := startWith(t, second.ca, second.config.Data, func(c *Config) {
		c.Listen, c.Names, c.Permit = second.config.Listen, nil, ""
	})
	again.knows(hubs)
	hubs[0].knows(hubs)
}

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

func TestAHubOfAnotherMeshIsNotLinkedWith(t *testing.T) {
	first, foreign := start(t, atAddress(t)), start(t, atAddress(t))
	second := first.another(func(c *Config) { c.Peers = []string{foreign.address(), first.address()} })
	second.knows([]*testHub{first, second})
	for _, h := range []*testHub{second, foreign} {
		for _, e := range h.hubs().Hubs {
			if _, _, err := first.device("x").verifier.HubRecord(e.Record); h == second && err != nil {
				t.Errorf("it knows a hub that is none: %v", err)
			}
		}
	}
	if n := len(foreign.hubs().Hubs); n != 1 {
		t.Errorf("the foreign hub knows %d hubs", n)
	}
}

func TestOfTwoEndpointsThatGotOneNameTheOneAdmittedFirstHasIt(t *testing.T) {
	r := newRoad(t)
	first := start(t, atAddress(t))
	second := first.another(func(c *Config) { c.Peers = []string{r.address()} })
	older := first.deviceAt("alice", time.Now().Add(-time.Hour), time.Now())
	newer := second.device("bob")
	a, b := older.online("nas"), newer.online("nas")
	r.open(first)
	first.knows([]*testHub{first, second})
	wait(t, "the endpoint that was admitted later is cut off", b.ended)
	wantRefusal(t, newer.put(newer.session(), newer.record("nas")), 409, "taken")
	for _, h := range []*testHub{first, second} {
		h.sees(older.id, true)
	}
	if err := newer.put(newer.session(), newer.record("nas2")); err != nil {
		t.Error(err)
	}
	select {
	case <-a.ended:
		t.Error("the other one was cut off, too")
	default:
	}
}

func TestAnEndpointThatLeavesIsGoneAtAllHubs(t *testing.T) {
	hubs := several(t, 2)
	bob := hubs[0].device("bob").online("bob")
	hubs[1].sees(bob.id, true)
	if err := bob.Call(t.Context(), "DELETE", tunnel.PathEndpoints+"/"+string(bob.id), nil, nil, nil); err != nil {
		t.Fatal(err)
	}
	looker := hubs[1].device("looker").session()
	eventually(t, "the other hub has forgotten the endpoint", func() bool { return len(names(t, looker)) == 0 })
}

func TestAnEvictionAtOneHubHoldsAtAll(t *testing.T) {
	hubs := several(t, 3)
	root := hubs[0].device("root").session()
	eve := hubs[2].device("eve").online("eve")
	trust, err := identity.NewTrust(hubs[0].ca.CertificatePEM())
	if err != nil {
		t.Fatal(err)
	}
	next, err := trust.Evict(hubs[0].ca, "eve", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := root.Call(t.Context(), "POST", tunnel.PathTrust, nil, next.Document(), nil); err != nil {
		t.Fatal(err)
	}
	wait(t, "the evicted user is cut off at another hub", eve.ended)
	for _, h := range hubs {
		looker := h.device("looker").session()
		eventually(t, "the list is in force", func() bool {
			var status tunnel.HubStatus
			return looker.Call(t.Context(), "GET", tunnel.PathHub, nil, nil, &status) == nil && status.Trust == 1
		})
	}
}

func TestAnEvictedHubIsForgottenByTheOthers(t *testing.T) {
	hubs := several(t, 3)
	trust, err := identity.NewTrust(hubs[0].ca.CertificatePEM())
	if err != nil {
		t.Fatal(err)
	}
	next, err := trust.EvictAll(hubs[0].ca, time.Now(), identity.Eviction{ID: hubs[2].started.ID, Hub: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := hubs[0].device("root").session().Call(t.Context(), "POST", tunnel.PathTrust, nil, next.Document(), nil); err != nil {
		t.Fatal(err)
	}
	for _, h := range hubs[:2] {
		looker := h.device("looker").session()
		eventually(t, "the hub knows the one that is left, and no other", func() bool {
			var all tunnel.Hubs
			err := looker.Call(t.Context(), "GET", tunnel.PathHubs, nil, nil, &all)
			return err == nil && len(all.Hubs) == 2 && all.Hubs[1].Online
		})
	}
}

func TestAgentsAreToldNowAndThenOfAHubThatChangesAllTheTime(t *testing.T) {
	h := start(t)
	agent, restless := h.device("bob").online("bob"), h.impostor()
	began := time.Now()
	link, err := tunnel.Open(t.Context(), &tunnel.Dialer{}, h.address(), restless.config(tunnel.HubProto))
	if err != nil {
		t.Fatal(err)
	}
	defer link.Close()
	for i := range 200 {
		doc, err := identity.SignHubRecord(identity.HubRecord{
			ID: restless.id, Names: []string{"127.0.0.1:1"}, Weight: 1 + i%2, Time: unixtime.Millis(i + 1), Certificate: restless.cert.Certificate[0],
		}, restless.key)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		link.LinkEvents(ctx, doc, func(tunnel.LinkEvent) { cancel() })
		cancel()
	}
	h.sees(agent.id, true) // what was to be told before has been sent
	told := 0
	for more := true; more; {
		select {
		case e := <-agent.events:
			if e.Type == tunnel.EventHubs {
				told++
			}
		default:
			more = false
		}
	}
	if most := 2 + int(time.Since(began)/tellHubsEvery); told < 1 || told > most { // one as it attached
		t.Errorf("the agent was told %d times, want 1 to %d", told, most)
	}
}

func TestATokenIsRedeemedAtWhateverHubItsIssuerIs(t *testing.T) {
	hubs := several(t, 2)
	root := hubs[1].device("root").online("root")
	root.sign(hubs[1].signer(root.id))
	hubs[0].sees(root.id, true)
	bob := hubs[0].unjoined("bob")
	if err := bob.join("laptop", hubs[0].token("bob", root.id)); err != nil {
		t.Fatal(err)
	}
	bob.online("laptop")
	hubs[1].sees(bob.id, true)
}

func TestAHubThatDrainsSendsItsAgentsAwayAndKeepsTheirPaths(t *testing.T) {
	hubs := several(t, 2, func(c *Config) { c.Drain = timeout })
	first, second := hubs[0], hubs[1]
	alice, bob := first.device("alice").online("alice"), first.device("bob").online("bob")
	bob.answerTo(func(identity.ID) bool { return true }, echo)
	c := path(t, alice.device, bob.id)
	ended := make(chan error, 1)
	go func() { ended <- first.stop() }()
	if e := alice.next(tunnel.EventMove); e.Within <= 0 {
		t.Errorf("the event is %+v", e)
	}
	pingPong(t, c)
	if err := exchange(t, alice.device, bob.id); err == nil {
		t.Error("a hub that drains made a new path")
	}
	var all tunnel.Hubs
	looker := second.device("looker").session()
	eventually(t, "the other hub knows that it drains", func() bool {
		if err := looker.Call(t.Context(), "GET", tunnel.PathHubs, nil, nil, &all); err != nil {
			t.Fatal(err)
		}
		return len(all.Hubs) == 2 && all.Hubs[1].Draining
	})
	alice.Session.Close()
	bob.Session.Close()
	pingPong(t, c)
	c.Close()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(timeout):
		t.Error("the hub waits, and nobody is left")
	}
}

// claims is an impostor that tells hubs what it likes.
type claims struct {
	*device
	address string
	tells   []tunnel.LinkEvent
	given   chan struct{} // closed when a hub has ended its link
	once    sync.Once
	records func(tunnel.Wanted) tunnel.Records // nil: it has none
}

// claims starts an impostor that is linked with the hub, and tells it events and then pings.
func (h *testHub) claims(tells ...func(*device) tunnel.LinkEvent) *claims {
	h.t.Helper()
	return h.claimsWith(nil, tells...)
}

// claimsWith is claims for an impostor that has records of endpoints.
func (h *testHub) claimsWith(records func(tunnel.Wanted) tunnel.Records, tells ...func(*device) tunnel.LinkEvent) *claims {
	h.t.Helper()
	c := &claims{device: h.impostor(), given: make(chan struct{}), records: records}
	for _, f := range tells {
		c.tells = append(c.tells, f(c.device))
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		h.t.Fatal(err)
	}
	c.address = ln.Addr().String()
	server := h2.NewServer(http.HandlerFunc(c.serve), tuning.Hub)
	var running sync.WaitGroup
	running.Go(func() { c.accept(ln, server) })
	h.t.Cleanup(func() {
		ln.Close()
		running.Wait()
		server.Close()
	})
	doc, err := identity.SignHubRecord(identity.HubRecord{
		ID: c.id, Names: []string{c.address}, Time: unixtime.MillisOf(time.Now()), Certificate: c.cert.Certificate[0],
	}, c.key)
	if err != nil {
		h.t.Fatal(err)
	}
	link, err := tunnel.Open(h.t.Context(), &tunnel.Dialer{}, h.address(), c.config(tunnel.HubProto))
	if err != nil {
		h.t.Fatal(err)
	}
	running.Go(func() { link.LinkEvents(context.Background(), doc, func(tunnel.LinkEvent) {}) })
	h.t.Cleanup(func() { link.Close() })
	return c
}

func (c *claims) accept(ln net.Listener, server *h2.Server) {
	config := c.verifier.ServerConfig(func() tls.Certificate { return c.cert }, tunnel.HubProto, tunnel.HopProto)
	for {
		raw, err := ln.Accept()
		if err != nil {
			return
		}
		conn := tls.Server(raw, config)
		if conn.Handshake() != nil || conn.ConnectionState().NegotiatedProtocol != tunnel.HubProto {
			raw.Close()
			continue
		}
		server.Serve(&h2.Tagged{Conn: conn})
	}
}

func (c *claims) serve(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == tunnel.PathLinkEndpoints && c.records != nil {
		var wanted tunnel.Wanted
		if err := json.NewDecoder(r.Body).Decode(&wanted); err == nil {
			json.NewEncoder(w).Encode(c.records(wanted))
		}
		return
	}
	if r.URL.Path != tunnel.PathLinkEvents {
		http.NotFound(w, r)
		return
	}
	defer c.once.Do(func() { close(c.given) })
	enc, rc := json.NewEncoder(w), http.NewResponseController(w)
	for _, e := range c.tells {
		enc.Encode(e)
	}
	rc.Flush()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if enc.Encode(tunnel.LinkEvent{Type: tunnel.LinkPing}) != nil || rc.Flush() != nil {
				return
			}
		case <-r.Context().Done():
			return
		}
	}
}

// says is an event of an impostor that is the same whoever it is.
func says(e tunnel.LinkEvent) func(*device) tunnel.LinkEvent {
	return func(*device) tunnel.LinkEvent { return e }
}

// up is an event that says that an endpoint is attached to the impostor. The endpoint has signed that
// it is attached to hub, or to the impostor where that is "".
func up(d *device, hub identity.ID, instance string, since time.Time, by *device) func(*device) tunnel.LinkEvent {
	return func(impostor *device) tunnel.LinkEvent {
		a := identity.Attach{ID: by.id, Hub: cmp.Or(hub, impostor.id), Instance: instance, Since: unixtime.MillisOf(since)}
		doc, err := identity.SignAttach(a, by.key)
		if err != nil {
			impostor.hub.t.Fatal(err)
		}
		return tunnel.LinkEvent{Type: tunnel.LinkUp, ID: d.id, Instance: instance, Since: a.Since, Address: "192.0.2.1:1", Attach: doc}
	}
}

func TestAHubCannotClaimAnEndpointThatDidNotAttachToIt(t *testing.T) {
	h := start(t, atAddress(t), func(c *Config) { c.Metrics = "127.0.0.1:0" })
	var known []*device
	for i := range 4 {
		d := h.device("bob")
		if err := d.put(d.session(), d.record(fmt.Sprint("ep", i))); err != nil {
			t.Fatal(err)
		}
		known = append(known, d)
	}
	mallory, now := h.device("mallory"), time.Now()
	h.claims(
		says(tunnel.LinkEvent{Type: tunnel.LinkSnapshot}),
		up(known[0], "", "x", now, known[0]),           // it is there
		up(known[1], "", "x", now, mallory),            // another signed that
		up(known[2], h.started.ID, "x", now, known[2]), // it is at another hub
		up(known[3], "", "x", now, known[2]),           // of another endpoint
		says(tunnel.LinkEvent{Type: tunnel.LinkEnd}),
	)
	h.sees(known[0].id, true)
	eventually(t, "the others are refused", func() bool { return h.metric(`ztm_hub_links_refused_total{reason="attach"}`) >= 3 })
	for _, d := range known[1:] {
		h.sees(d.id, false)
	}
}

func TestOfTwoProcessesWithOneKeyTheNewerIsHeard(t *testing.T) {
	h := start(t, atAddress(t))
	bob, began := h.device("bob"), time.Now()
	if err := bob.put(bob.session(), bob.record("bob")); err != nil {
		t.Fatal(err)
	}
	events := func(instance string, since time.Time) <-chan error {
		s, ended := bob.session(), make(chan error, 1)
		field := base64.StdEncoding.EncodeToString(up(bob, h.started.ID, instance, since, bob)(bob).Attach)
		go func() { ended <- s.Events(context.Background(), func(tunnel.Event) {}, tunnel.FieldAttach, field) }()
		return ended
	}
	older := events("old", began)
	h.sees(bob.id, true)
	h.claims(
		says(tunnel.LinkEvent{Type: tunnel.LinkSnapshot}),
		up(bob, "", "new", began.Add(time.Second), bob),
		says(tunnel.LinkEvent{Type: tunnel.LinkEnd}),
	)
	within := func(what string, ended <-chan error) error {
		select {
		case err := <-ended:
			return err
		case <-time.After(timeout):
			t.Fatal("not ended: " + what)
			return nil
		}
	}
	within("the older process is cut off", older)
	wantRefusal(t, within("it comes again", events("old", began)), 409, "newer")

	events("newest", began.Add(time.Hour))
	eventually(t, "the newest process is attached to this hub", func() bool { return slices.Contains(h.sees(bob.id, true).Hubs, h.started.ID) })
	wantRefusal(t, within("an attachment that is none", func() <-chan error {
		s, ended := bob.session(), make(chan error, 1)
		go func() { ended <- s.Events(context.Background(), func(tunnel.Event) {}, tunnel.FieldAttach, "eHg=") }()
		return ended
	}()), 400, "attach")
}

func TestAHubThatTellsOfTooMuchIsNotHeard(t *testing.T) {
	t.Parallel() // it waits, most of the time
	h := start(t, atAddress(t), func(c *Config) { c.Limits.Agents = 3 })
	one := h.device("bob")
	if err := one.put(one.session(), one.record("one")); err != nil {
		t.Fatal(err)
	}
	tells := []func(*device) tunnel.LinkEvent{says(tunnel.LinkEvent{Type: tunnel.LinkSnapshot}), up(one, "", "x", time.Now(), one)}
	for range 3 {
		d := h.device("eve")
		tells = append(tells, up(d, "", "x", time.Now(), d))
	}
	flood := h.claims(append(tells, says(tunnel.LinkEvent{Type: tunnel.LinkEnd}))...)
	odd := h.claims(says(tunnel.LinkEvent{Type: tunnel.LinkSnapshot}), says(tunnel.LinkEvent{Type: tunnel.LinkUp, ID: "x"}), says(tunnel.LinkEvent{Type: tunnel.LinkEnd}))
	wait(t, "the link to a hub that tells of too many ends", flood.given)
	wait(t, "the link to a hub that tells what is none ends", odd.given)
	h.sees(one.id, false)
}

func TestHubsWhoseClocksDifferAreLinked(t *testing.T) {
	t.Parallel() // it waits, most of the time
	first := start(t, atAddress(t))
	second := first.another(func(c *Config) { c.clock = time.Now().Add(100 * 24 * time.Hour) })
	both := []*testHub{first, second}
	first.knows(both)
	second.knows(both)
	alice, bob := first.device("alice").online("alice"), second.device("bob").online("bob")
	bob.answer(echo)
	first.sees(bob.id, true)
	second.sees(alice.id, true)
	if err := exchange(t, alice.device, bob.id); err != nil {
		t.Error(err)
	}
}

func TestARecordThatIsRefusedKeepsNoOtherFromBeingTaken(t *testing.T) {
	t.Parallel() // it waits, most of the time
	h := start(t, atAddress(t), func(c *Config) { c.Metrics = "127.0.0.1:0" })
	const n = 2*tunnel.PageSize + 2 // more than two pages, whenever the first are asked for
	docs := map[identity.ID][]byte{}
	tells := []func(*device) tunnel.LinkEvent{says(tunnel.LinkEvent{Type: tunnel.LinkSnapshot})}
	for i := range n {
		d := h.device("bob")
		docs[d.id] = d.record(fmt.Sprint("ep", i))
		tells = append(tells, says(tunnel.LinkEvent{Type: tunnel.LinkUp, ID: d.id, Time: d.clock}))
	}
	told := make(chan struct{})
	release := sync.OnceFunc(func() { close(told) })
	defer release()
	h.claimsWith(func(wanted tunnel.Wanted) tunnel.Records {
		<-told
		got := tunnel.Records{Records: [][]byte{[]byte("no record")}}
		for _, id := range wanted.IDs {
			got.Records = append(got.Records, docs[id])
		}
		return got
	}, append(tells, says(tunnel.LinkEvent{Type: tunnel.LinkEnd}))...)
	eventually(t, "all endpoints are told", func() bool {
		return slices.ContainsFunc(h.hubs().Hubs, func(e tunnel.HubEntry) bool { return !e.Self && e.Online })
	})
	release()
	eventually(t, "the records of all endpoints are there", func() bool { return h.metric("ztm_hub_endpoints") == n })
}
