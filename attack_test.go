package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ztm/apps"
	"ztm/apps/appstest"
	"ztm/tunnel/identity"
	"ztm/tunnel/seal"
)

// What members can do to an endpoint that they may use nothing of. In each of these tests one of
// them does it, and another goes on as ever.

// stalled sends all but the end of requests, all at once, and returns what they are answered with.
// Those that are not answered end with the test.
func stalled(t *testing.T, s *seal.Session, path string, header http.Header, size int64, requests int) <-chan int {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	statuses := make(chan int, requests)
	var wg sync.WaitGroup
	for range requests {
		body, feed := io.Pipe()
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://peer"+path, body)
		if err != nil {
			t.Fatal(err)
		}
		req.ContentLength, req.Header = size, header.Clone()
		wg.Go(func() { feed.Write(bytes.Repeat([]byte(" "), int(size-1))) }) // ends with the request
		wg.Go(func() {
			defer body.Close()
			resp, err := s.RoundTrip(req)
			if err != nil {
				return
			}
			resp.Body.Close()
			statuses <- resp.StatusCode
		})
	}
	t.Cleanup(func() { cancel(); wg.Wait() })
	return statuses
}

// wantLimited waits until so many requests were answered that there are too many of them.
func wantLimited(t *testing.T, statuses <-chan int, n int) {
	t.Helper()
	late := time.After(appstest.Timeout)
	for i := range n {
		select {
		case status := <-statuses:
			if status != http.StatusTooManyRequests {
				t.Errorf("a request too many is answered with %d", status)
			}
		case <-late:
			t.Fatalf("%d requests of %d were answered", i, n)
		}
	}
}

func TestTrustListsThatStallTakeNoMemory(t *testing.T) {
	w := newWorld(t)
	w.join("root", "root")
	w.join("bob", "bob")
	bob := w.endpoint("ep-bob").ID
	header := http.Header{"Ztm-Trust": {"1000"}}
	const requests = 12
	for range 3 { // devices; more than there are places
		eve := w.intruder("eve").session(t, bob)
		wantLimited(t, stalled(t, eve, seal.PathTrust, header, 1<<20, requests), requests-1)
	}

	// Somebody else brings a list that is good.
	ca, permit := w.ca()
	trust, err := identity.ParseTrust([]byte(permit.CA), permit.Trust)
	if err == nil {
		trust, err = trust.Evict(ca, "mallory", time.Now())
	}
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://peer"+seal.PathTrust, bytes.NewReader(trust.Document()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Ztm-Trust", strconv.FormatUint(trust.Version(), 10))
	resp, err := w.intruder("ann").session(t, bob).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusNoContent {
		t.Errorf("a good list of another member is answered with %d, %s", resp.StatusCode, text)
	}
}

func TestATrustListThatIsNotNewerIsNotRead(t *testing.T) {
	w := newWorld(t)
	w.join("root", "root")
	w.join("bob", "bob")
	s := w.intruder("eve").session(t, w.endpoint("ep-bob").ID)
	for name, header := range map[string]http.Header{
		"the version in force": {"Ztm-Trust": {"0"}}, "no version": {}, "a version that is none": {"Ztm-Trust": {"newest"}},
	} {
		select {
		case status := <-stalled(t, s, seal.PathTrust, header, 1<<20, 1):
			if status != http.StatusBadRequest && status != http.StatusConflict {
				t.Errorf("%s: answered with %d", name, status)
			}
		case <-time.After(appstest.Timeout):
			t.Errorf("%s: the endpoint waits for the list", name)
		}
	}
}

func TestManagementBodiesThatStallAreLimited(t *testing.T) {
	w := newWorld(t)
	w.join("root", "root")
	w.join("bob", "bob")
	bob := w.endpoint("ep-bob").ID
	const requests, places = 20, 8
	wantLimited(t, stalled(t, w.intruder("bob").session(t, bob), seal.PathAPI+"labels", http.Header{}, 100<<10, requests), requests-places)

	// Another device of the user manages the endpoint all the same.
	w.join("bob2", "bob")
	w.ztm("bob2", "ep", "ep-bob", "tunnel", "open", "outbound", "tcp/web", "--targets", "127.0.0.1:1")
}

func TestHandshakesThatStallLeaveRoomForOthers(t *testing.T) {
	w := newWorld(t)
	w.join("root", "root")
	w.join("bob", "bob")
	bob := w.endpoint("ep-bob").ID
	var eve sync.WaitGroup
	ctx, cancel := context.WithTimeout(t.Context(), appstest.Timeout)
	defer cancel()
	for range 5 { // devices: more together than there are places
		device := w.intruder("eve")
		for range 32 {
			eve.Go(func() {
				if c, err := device.path(ctx, bob); err == nil {
					t.Cleanup(func() { c.Close() })
				}
			})
		}
	}
	eve.Wait()

	soon, stop := context.WithTimeout(t.Context(), 10*time.Second)
	defer stop()
	s, err := w.intruder("ann").dial(soon, bob)
	if err != nil {
		t.Fatalf("another member gets no session: %v", err)
	}
	s.Close()
}

func TestAFlowIsNotRunTwiceWhateverOthersOpen(t *testing.T) {
	w := newWorld(t)
	w.join("root", "root")
	k := &keeper{kept: map[apps.Peer]bool{}}
	w.options.Apps = []apps.Kind{{Name: "keeper", New: func(apps.Host) apps.App { return k }}}
	w.join("bob", "bob")
	bob := w.endpoint("ep-bob").ID
	ann, eve := w.intruder("ann"), w.intruder("eve")
	first := ann.session(t, bob)
	if _, status := ann.flow(t, first, "keeper/x", "mine"); status != http.StatusOK {
		t.Fatalf("the flow was refused: %d", status)
	}
	if _, status := ann.flow(t, ann.session(t, bob), "keeper/x", "mine"); status != http.StatusConflict {
		t.Errorf("the same flow while the first one runs: %d", status)
	}
	first.Close()
	appstest.Eventually(t, "the flow of the session that is lost ends", func() bool { _, n := k.users(); return n == 0 })
	s := eve.session(t, bob)
	for i := range 300 {
		eve.flow(t, s, "keeper/refuse", fmt.Sprint("flow ", i))
	}
	if _, status := ann.flow(t, ann.session(t, bob), "keeper/x", "mine"); status != http.StatusConflict {
		t.Errorf("the same flow after many of another member: %d", status)
	}
}

func TestLinesThatAPeerCausesAreFew(t *testing.T) {
	w := newWorld(t)
	w.join("root", "root")
	k := &keeper{kept: map[apps.Peer]bool{}}
	w.options.Apps = []apps.Kind{{Name: "keeper", New: func(apps.Host) apps.App { return k }}}
	w.join("bob", "bob")
	bob := w.endpoint("ep-bob").ID
	eve := w.intruder("eve")
	lines := func() int { return strings.Count(w.logs["bob"].String(), "\n") }
	before := lines()
	start := time.Now()
	s := eve.session(t, bob)
	for range 200 {
		eve.flow(t, s, "keeper/fail", "")
	}
	seconds := int(time.Since(start).Seconds()) + 1
	if got := lines() - before; got > 20+2*seconds {
		t.Errorf("200 flows that fail make %d lines in %d seconds", got, seconds)
	}
	if longest := slicesMax(strings.Split(w.logs["bob"].String(), "\n")); longest > 2000 {
		t.Errorf("a line has %d bytes", longest)
	}
}

func slicesMax(lines []string) (longest int) {
	for _, l := range lines {
		longest = max(longest, len(l))
	}
	return longest
}

func TestManyClientsOfOneUDPTunnelAreServedAtOnce(t *testing.T) {
	w := newWorld(t)
	w.join("root", "root")
	w.join("bob", "bob")
	target, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	go func() { // ends with target
		b := make([]byte, 64)
		for {
			n, from, err := target.ReadFrom(b)
			if err != nil {
				return
			}
			target.WriteTo(b[:n], from)
		}
	}()
	port, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listen := port.LocalAddr().String()
	port.Close()
	w.ztm("bob", "tunnel", "open", "outbound", "udp/echo", "--targets", target.LocalAddr().String(), "--users", "root")
	w.ztm("root", "tunnel", "open", "inbound", "udp/echo", "--listen", listen)

	const clients = 1200 // more than one session has streams
	var answered atomic.Int32
	all := make(chan struct{}) // closed when all were answered
	ctx, cancel := context.WithTimeout(t.Context(), 2*appstest.Timeout)
	defer cancel()
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			c, err := net.Dial("udp", listen)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			b := make([]byte, 64)
			for range int(appstest.Timeout / time.Second) { // a datagram may be lost, a client must not be
				io.WriteString(c, "hello")
				c.SetReadDeadline(time.Now().Add(time.Second))
				if n, err := c.Read(b); err == nil && string(b[:n]) == "hello" {
					if answered.Add(1) == clients {
						close(all)
					}
					break
				}
			}
			select { // stays, with its flow
			case <-all:
			case <-ctx.Done():
			}
		})
	}
	wg.Wait()
	if n := answered.Load(); n != clients {
		t.Errorf("%d clients of %d were served", n, clients)
	}
}
