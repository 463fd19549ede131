package hub

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"ztm/tunnel"
	"ztm/tunnel/h2"
	"ztm/tunnel/identity"
	"ztm/tunnel/tuning"
	"ztm/tunnel/unixtime"
)

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
