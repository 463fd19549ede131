package hub

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/pem"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"ztm/apps/appstest"
	"ztm/hub/state"
	"ztm/tunnel"
	"ztm/tunnel/identity"
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
	looker := hubs[2].device("looker").session()
	eventually(t, "the evicted one says why it has no link", func() bool {
		var all tunnel.Hubs
		err := looker.Call(t.Context(), "GET", tunnel.PathHubs, nil, nil, &all)
		return err == nil && slices.ContainsFunc(all.Hubs, func(e tunnel.HubEntry) bool { return strings.Contains(e.Refused, "evicted") })
	})
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
