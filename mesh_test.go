package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ztm/agent"
	"ztm/agent/api"
	"ztm/apps"
	"ztm/apps/appstest"
	"ztm/hub"
	"ztm/tunnel"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	"ztm/tunnel/identity/identitytest"
	"ztm/tunnel/seal"
)

// world is a whole mesh in this process: one hub, any number of agents, real sockets on loopback,
// and the command line.
type world struct {
	t       testing.TB
	dir     string
	address string // of the hub
	hubLog  *appstest.Buffer
	stopHub func()
	options agent.Config                // of the agents that are started from now on
	logs    map[string]*appstest.Buffer // of the agents, with debug lines
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := emptyWorld(t)
	w.startHub(hub.Config{})
	return w
}

// emptyWorld has no hub yet. With -short one whole mesh is enough: the other tests that make one
// are left out.
func emptyWorld(t testing.TB) *world {
	t.Helper()
	if t.Name() != "TestTwoDevicesReachAService" {
		appstest.Long(t)
	}
	return &world{t: t, dir: t.TempDir(), address: appstest.FreeAddress(t), hubLog: &appstest.Buffer{}, logs: map[string]*appstest.Buffer{}}
}

// startHub starts the hub, again if it was stopped.
func (w *world) startHub(c hub.Config) {
	w.t.Helper()
	c.Data, c.Names = w.path("hub"), []string{w.address}
	if c.Listen == "" {
		c.Listen = w.address
	}
	if c.Permit == "" {
		c.Permit = w.path("root.json")
	}
	c.Log = slog.New(slog.NewTextHandler(w.hubLog, nil))
	started := make(chan struct{})
	c.Started = func(hub.Started) { close(started) }
	h, err := hub.New(c)
	if err != nil {
		w.t.Fatal(err)
	}
	stop, ended := w.background("hub", h.Run)
	w.stopHub = stop
	select {
	case <-started:
	case <-ended:
		w.t.Fatal("the hub did not start")
	}
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

// background runs f until stop is called, which waits; the end of the test stops it too.
func (w *world) background(name string, f func(context.Context) error) (stop func(), ended <-chan struct{}) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := f(ctx); err != nil {
			w.t.Errorf("%s: %v", name, err)
		}
	}()
	stop = func() { cancel(); <-done }
	w.t.Cleanup(stop)
	return stop, done
}

// startAgent starts an agent with a data directory of that name.
func (w *world) startAgent(name string) (stop func()) {
	w.t.Helper()
	log := &appstest.Buffer{}
	w.logs[name] = log
	c := w.options
	if c.Apps == nil {
		c.Apps = kinds()
	}
	c.Data, c.Log = w.path(name), slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	a, err := agent.New(c)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		if w.t.Failed() {
			w.t.Logf("log of agent %s:\n%s", name, log)
		}
	})
	stop, _ = w.background("agent "+name, a.Run)
	w.until("agent "+name+" answers", func() error {
		c, _, err := api.Dial(w.t.Context(), w.path(name))
		if err == nil {
			c.Close()
		}
		return err
	})
	return stop
}

// ztm runs the command line against an agent and returns what it prints.
func (w *world) ztm(agent string, args ...string) string {
	w.t.Helper()
	out, errs, status := w.try(agent, args...)
	if status != 0 {
		w.t.Fatalf("ztm %s (at %s): exit status %d\n%s", strings.Join(args, " "), agent, status, errs)
	}
	return out
}

func (w *world) try(agent string, args ...string) (stdout, stderr string, status int) {
	var out, errs bytes.Buffer
	args = append([]string{"ztm", "--data", w.path(agent)}, args...)
	status = run(args, strings.NewReader(""), &out, &errs)
	return out.String(), errs.String(), status
}

// join starts an agent and makes it an endpoint "ep-NAME" of user; user root joins with the root
// permit.
func (w *world) join(name, user string) (stop func()) {
	w.t.Helper()
	stop = w.startAgent(name)
	permit := w.path("root.json")
	if user != "root" {
		permit = w.path(name + ".json")
		w.write(name+".pub", w.ztm(name, "identity"))
		w.ztm("root", "invite", user, "--identity", w.path(name+".pub"), "--permit", permit)
	}
	w.ztm(name, "join", "demo", "--as", "ep-"+name, "--permit", permit)
	w.connected(name)
	return stop
}

func (w *world) connected(name string) {
	w.t.Helper()
	w.until(name+" is connected", func() error {
		if out := w.ztm(name, "get", "mesh"); !strings.Contains(out, "Connected") {
			return errors.New(out)
		}
		return nil
	})
}

func (w *world) write(name, content string) {
	w.t.Helper()
	if err := os.WriteFile(w.path(name), []byte(content), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// until waits for a condition, for a minute and a half at most.
func (w *world) until(what string, f func() error) {
	w.t.Helper()
	deadline := time.NewTimer(90 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return
		}
		select {
		case <-deadline.C:
			w.t.Fatalf("never true: %s: %v", what, err)
		case <-tick.C:
		}
	}
}

// serveEach has handle serve every connection, which ends with it, and returns the address. When
// the test is over it waits for all.
func serveEach(t testing.TB, handle func(*net.TCPConn)) (address string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				handle(c.(*net.TCPConn))
			})
		}
	})
	t.Cleanup(func() { ln.Close(); wg.Wait() })
	return ln.Addr().String()
}

// echoServer answers every connection with its own bytes.
func echoServer(t testing.TB) string {
	return serveEach(t, func(c *net.TCPConn) {
		io.Copy(c, c)
		c.CloseWrite()
	})
}

// echo sends text through address and reports what comes back.
func echo(address, text string) (string, error) {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(60 * time.Second))
	if _, err := io.WriteString(c, text); err != nil {
		return "", err
	}
	c.(*net.TCPConn).CloseWrite()
	b, err := io.ReadAll(c)
	return string(b), err
}

// tunnelTo opens tcp/NAME from agent entrance to the exit's service and returns the listening
// address.
func (w *world) tunnelTo(entrance, exit, name, target string, more ...string) string {
	w.t.Helper()
	listen := appstest.FreeAddress(w.t)
	w.ztm(exit, append([]string{"tunnel", "open", "outbound", "tcp/" + name, "--targets", target}, more...)...)
	w.ztm(entrance, "tunnel", "open", "inbound", "tcp/"+name, "--listen", listen)
	return listen
}

func wantEcho(t testing.TB, address string) {
	t.Helper()
	got, err := echo(address, "hello")
	if err != nil || got != "hello" {
		t.Fatalf("through the tunnel: %q, %v", got, err)
	}
}

func TestTwoDevicesReachAService(t *testing.T) {
	w := newWorld(t)
	w.join("root", "root")
	w.join("bob", "bob")
	listen := w.tunnelTo("root", "bob", "web", echoServer(t), "--users", "root")
	wantEcho(t, listen)
}

func TestWhoHasJoinedIsConnected(t *testing.T) {
	w := newWorld(t)
	for i := range 5 {
		name := fmt.Sprintf("root%d", i)
		w.startAgent(name)
		w.ztm(name, "join", "demo", "--as", "ep-"+name, "--permit", w.path("root.json"))
		if m := w.membership(name); m.Status != api.Connected {
			t.Errorf("right after the join: %s", m.Status)
		}
	}
}

func TestATunnelThatIsOpenIsInTheDirectory(t *testing.T) {
	w := newWorld(t)
	w.join("root", "root")
	w.join("bob", "bob")
	for i := range 20 {
		name := fmt.Sprintf("tcp/n%d", i)
		w.ztm("bob", "tunnel", "open", "outbound", name, "--targets", "127.0.0.1:1")
		if offers := w.endpoint("ep-bob").Offers; !slices.Contains(offers, "tunnel/"+name) {
			t.Fatalf("%s is open and not among %v", name, offers)
		}
	}
}

func TestAFlowThatMovesMuchGetsAConnectionOfItsOwn(t *testing.T) {
	w := newWorld(t)
	w.join("root", "root")
	w.join("bob", "bob")
	listen := w.tunnelTo("root", "bob", "web", echoServer(t), "--users", "root")
	data := make([]byte, 32<<20)
	rand.NewChaCha8([32]byte{}).Read(data)
	c, err := net.Dial("tcp", listen)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	sent := make(chan error, 1)
	go func() { // ends with c
		_, err := c.Write(data)
		sent <- err
	}()
	got := make([]byte, len(data))
	if _, err := io.ReadFull(c, got); err != nil {
		t.Fatal(err)
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, data) {
		t.Error("other bytes came back")
	}
	w.until("the flow is offloaded at both ends", func() error {
		for _, name := range []string{"root", "bob"} {
			var s api.Stats
			if err := json.Unmarshal([]byte(w.ztm(name, "stats", "ep", "-o", "json")), &s); err != nil {
				return err
			}
			if s.Active != 1 || s.Offloaded != 1 {
				return fmt.Errorf("%s has %d flows, %d of them offloaded", name, s.Active, s.Offloaded)
			}
		}
		return nil
	})
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(got); n != 0 || err != io.EOF {
		t.Errorf("the end comes back as %d bytes, %v", n, err)
	}
}

func TestEverythingComesBackAfterRestarts(t *testing.T) {
	appstest.Long(t)
	w := newWorld(t)
	w.join("root", "root")
	stopBob := w.join("bob", "bob")
	listen := w.tunnelTo("root", "bob", "web", echoServer(t), "--users", "root")
	wantEcho(t, listen)

	stopBob()
	if _, err := echo(listen, "x"); err == nil {
		t.Error("the exit is down, and the client saw no error")
	}
	w.startAgent("bob")
	w.connected("bob")
	wantEcho(t, listen)

	w.stopHub()
	w.startHub(hub.Config{})
	w.connected("bob")
	w.connected("root")
	w.until("the tunnel works again", func() error {
		_, err := echo(listen, "x")
		return err
	})
}

func TestEvictionCutsLiveSessionsAndReinvitationWorks(t *testing.T) {
	w := newWorld(t)
	w.join("root", "root")
	w.join("bob", "bob")
	stopEve := w.join("eve", "eve")
	listen := w.tunnelTo("eve", "bob", "web", echoServer(t), "--users", "eve", "root")
	c, err := net.Dial("tcp", listen)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(60 * time.Second))
	io.WriteString(c, "live")
	if _, err := io.ReadFull(c, make([]byte, 4)); err != nil {
		t.Fatal(err)
	}

	w.ztm("root", "evict", "eve")
	if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the flow of an evicted user lives on: %v", err)
	}
	if _, err := echo(listen, "x"); err == nil {
		t.Error("an evicted user opened a new flow")
	}
	w.until("the directory forgets eve", func() error {
		if out := w.ztm("root", "get", "ep"); strings.Contains(out, "ep-eve") {
			return errors.New(out)
		}
		return nil
	})
	stopEve()

	// A second invitation of the same user, on the same device, is good.
	w.startAgent("eve")
	w.ztm("eve", "leave", "demo")
	w.ztm("root", "invite", "eve", "--identity", w.path("eve.pub"), "--permit", w.path("eve2.json"))
	w.ztm("eve", "join", "demo", "--as", "ep-eve", "--permit", w.path("eve2.json"))
	w.connected("eve")
	w.ztm("eve", "tunnel", "open", "inbound", "tcp/web", "--listen", listen)
	wantEcho(t, listen)
	// The permit from before the eviction is not.
	w.ztm("eve", "leave", "demo")
	if _, errs, status := w.try("eve", "join", "demo", "--as", "ep-eve", "--permit", w.path("eve.json")); status != 1 {
		t.Errorf("the old permit was taken: %d, %s", status, errs)
	}
}

func TestUsersSetFromAnotherEndpointAreKept(t *testing.T) {
	w := newWorld(t)
	w.join("root", "root")
	w.join("bob", "bob")
	w.join("bob2", "bob")
	w.join("eve", "eve")
	target := echoServer(t)
	w.ztm("bob2", "ep", "ep-bob", "tunnel", "open", "outbound", "tcp/web", "--targets", target, "--users", "root")
	allowed, other := appstest.FreeAddress(t), appstest.FreeAddress(t)
	w.ztm("root", "tunnel", "open", "inbound", "tcp/web", "--listen", allowed, "--exits", "ep-bob")
	w.ztm("eve", "tunnel", "open", "inbound", "tcp/web", "--listen", other, "--exits", "ep-bob")
	wantEcho(t, allowed)
	if got, err := echo(other, "x"); err == nil {
		t.Errorf("a user who is not listed got through: %q", got)
	}
	if _, errs, status := w.try("eve", "ep", "ep-bob", "tunnel", "close", "outbound", "tcp/web"); status != 1 || !strings.Contains(errs, "belongs to user bob") {
		t.Errorf("another user manages the endpoint: %d, %s", status, errs)
	}
}

func TestTunnelsAreListedOfOneEndpointOrOfAll(t *testing.T) {
	w := newWorld(t)
	w.join("root", "root")
	w.join("second", "root")
	w.ztm("root", "tunnel", "open", "outbound", "tcp/here", "--targets", "127.0.0.1:1")
	w.ztm("second", "tunnel", "open", "outbound", "tcp/there", "--targets", "127.0.0.1:1")
	for _, tt := range []struct {
		args        []string
		here, there bool
	}{
		{[]string{"get", "tunnel"}, true, true},
		{[]string{"ep", "ep-second", "get", "tunnel"}, false, true},
		{[]string{"ep", "ep-second", "get", "tunnel", "-o", "json"}, false, true},
	} {
		out := w.ztm("root", tt.args...)
		if strings.Contains(out, "tcp/here") != tt.here || strings.Contains(out, "tcp/there") != tt.there {
			t.Errorf("%v:\n%s", tt.args, out)
		}
	}
	if out, errs, status := w.try("root", "ep", "nobody", "get", "tunnel"); status != 1 || !strings.Contains(errs, "nobody") {
		t.Errorf("an endpoint that is not there: exit status %d\n%s%s", status, out, errs)
	}
}

func TestATunnelStaysWithTheUserWhoOfferedItFirst(t *testing.T) {
	w := newWorld(t)
	stop := w.join("root", "root")
	w.join("bob", "bob")
	w.join("eve", "eve")
	listen := w.tunnelTo("root", "bob", "db", echoServer(t), "--users", "root")
	wantEcho(t, listen)
	w.ztm("eve", "tunnel", "open", "outbound", "tcp/db", "--targets", appstest.FreeAddress(t), "--users", "root")
	stop()
	w.startAgent("root")
	w.connected("root")
	w.until("the inbound is open again", func() error {
		c, err := net.Dial("tcp", listen)
		if err == nil {
			c.Close()
		}
		return err
	})
	wantEcho(t, listen) // nobody else takes the connections, and nobody stops them
	if out := w.ztm("root", "describe", "inbound", "tcp/db"); !strings.Contains(out, "eve") {
		t.Errorf("describe does not say that eve offers it, too:\n%s", out)
	}

	// An inbound that has no user yet takes none by luck.
	another := appstest.FreeAddress(t)
	w.ztm("root", "tunnel", "close", "inbound", "tcp/db")
	w.ztm("root", "tunnel", "open", "inbound", "tcp/db", "--listen", another)
	if _, err := echo(another, "x"); err == nil {
		t.Error("it chose a user")
	}
	w.ztm("root", "tunnel", "set", "inbound", "tcp/db", "--exits-of", "bob")
	wantEcho(t, another)
}

func TestTunnelsAreShownWithNamesWhileTheHubIsAway(t *testing.T) {
	w := newWorld(t)
	w.join("root", "root")
	w.join("bob", "bob")
	w.ztm("bob", "tunnel", "open", "outbound", "tcp/web", "--targets", "127.0.0.1:1", "--users", "root")
	listen := appstest.FreeAddress(t)
	w.ztm("root", "tunnel", "open", "inbound", "tcp/web", "--listen", listen, "--exits", "ep-bob")
	w.stopHub()
	for _, args := range [][]string{{"get", "inbound"}, {"describe", "inbound", "tcp/web"}} {
		out, errs, status := w.try("root", args...)
		if status != 0 || !strings.Contains(out, "ep-bob") {
			t.Errorf("%v: exit status %d\n%s%s", args, status, out, errs)
		}
	}
	if _, err := echo(listen, "x"); err == nil {
		t.Error("a client got an answer")
	}
}

func TestAnAgentCountsForPrometheus(t *testing.T) {
	w := newWorld(t)
	w.join("root", "root")
	metrics := appstest.FreeAddress(t)
	w.options = agent.Config{Metrics: metrics}
	w.join("bob", "bob")
	wantEcho(t, w.tunnelTo("root", "bob", "web", echoServer(t), "--users", "root"))
	get := func(path string) string {
		resp, err := http.Get("http://" + metrics + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		return string(b)
	}
	for path, want := range map[string]string{
		"/healthz":      "ok",
		"/metrics":      `ztm_mesh_connected{mesh="demo"} 1`,
		"/metrics/demo": `tunnel="tcp/web"`,
	} {
		if got := get(path); !strings.Contains(got, want) {
			t.Errorf("%s has no %s:\n%s", path, want, got)
		}
	}
	if _, err := agent.New(agent.Config{Data: w.path("open"), Metrics: "0.0.0.0:9101"}); err == nil {
		t.Error("counters are shown to the world")
	}
}

// forge makes a member certificate with the CA key of the root permit: what an attacker inside the
// mesh holds.
func (w *world) forge(user string) (*identity.Verifier, tls.Certificate, ed25519.PrivateKey) {
	w.t.Helper()
	return w.forgeAdmitted(user, time.Now())
}

// forgeAdmitted is forge for a device that was admitted at a time.
func (w *world) forgeAdmitted(user string, admitted time.Time) (*identity.Verifier, tls.Certificate, ed25519.PrivateKey) {
	w.t.Helper()
	ca, p := w.ca()
	key, err := identity.NewKey()
	if err != nil {
		w.t.Fatal(err)
	}
	der, err := ca.SignMember(key.Public().(ed25519.PublicKey), user, admitted, time.Now())
	if err != nil {
		w.t.Fatal(err)
	}
	trust, err := identity.NewTrust([]byte(p.CA))
	if err != nil {
		w.t.Fatal(err)
	}
	return identity.NewVerifier(trust, identity.NewClock()), identity.TLSCertificate(der, key), key
}

func (w *world) ca() (*identity.CA, *identity.Permit) {
	w.t.Helper()
	b, err := os.ReadFile(w.path("root.json"))
	if err != nil {
		w.t.Fatal(err)
	}
	p, err := identity.ParsePermit(b)
	if err != nil {
		w.t.Fatal(err)
	}
	ca, err := identity.ParseCA([]byte(p.CA), []byte(p.CAKey))
	if err != nil {
		w.t.Fatal(err)
	}
	return ca, p
}

func (w *world) endpoint(name string) apps.Endpoint {
	w.t.Helper()
	var all []apps.Endpoint
	if err := json.Unmarshal([]byte(w.ztm("root", "get", "ep", "-o", "json")), &all); err != nil {
		w.t.Fatal(err)
	}
	for _, e := range all {
		if e.Name == name {
			return e
		}
	}
	w.t.Fatalf("no endpoint %s", name)
	return apps.Endpoint{}
}

func TestHeadersAndQueriesDoNotChangeWhoAsks(t *testing.T) {
	w := newWorld(t)
	w.join("root", "root")
	w.join("bob", "bob")
	w.ztm("bob", "tunnel", "open", "outbound", "tcp/web", "--targets", echoServer(t), "--users", "root")
	bob := w.endpoint("ep-bob")
	s := w.intruder("eve").session(t, bob.ID)
	for _, path := range []string{seal.PathApps + "tunnel/tcp/web?user=root&username=root&peer=" + string(w.endpoint("ep-root").ID), seal.PathAPI + "stats?user=bob", seal.PathAPI + "apps/tunnel/outbound/tcp/web"} {
		req, _ := http.NewRequest(http.MethodPost, "http://peer"+path, strings.NewReader("{}"))
		for _, h := range []string{"X-User", "X-Forwarded-User", "Ztm-User", "User", "X-Peer", "Ztm-Client", "Authorization", "X-Client-Cert", "Via"} {
			req.Header.Set(h, "root")
		}
		resp, err := s.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if diff := cmp.Diff(http.StatusForbidden, resp.StatusCode); diff != "" {
			t.Errorf("%s (-want +got):\n%s", path, diff)
		}
	}
}

func TestAMembersCertificateDoesNotMakeAHub(t *testing.T) {
	w := newWorld(t)
	w.join("root", "root")
	v, cert, _ := w.forge("eve")
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	asked := make(chan struct{}, 16)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			raw, err := ln.Accept()
			if err != nil {
				return
			}
			c := tls.Server(raw, v.ServerConfig(func() tls.Certificate { return cert }, tunnel.ControlProto))
			if n, _ := c.Read(make([]byte, 1)); n > 0 {
				asked <- struct{}{}
			}
			c.Close()
		}
	})
	b, _ := os.ReadFile(w.path("root.json"))
	w.write("fake.json", strings.ReplaceAll(string(b), w.address, ln.Addr().String()))
	w.startAgent("victim")
	_, errs, status := w.try("victim", "join", "demo", "--as", "ep-victim", "--permit", w.path("fake.json"))
	if status != 1 || !strings.Contains(errs, "member's certificate") {
		t.Errorf("exit status %d, %s", status, errs)
	}
	ln.Close()
	wg.Wait()
	if len(asked) > 0 {
		t.Error("the agent sent a request to the false hub")
	}
	if diff := cmp.Diff("", strings.TrimSpace(strings.Join(strings.Split(w.ztm("victim", "get", "mesh"), "\n")[1:], "\n"))); diff != "" {
		t.Errorf("something was kept (-want +got):\n%s", diff)
	}
}

func TestATokenAdmitsOneDevice(t *testing.T) {
	w := newWorld(t)
	w.join("root", "root")
	w.ztm("root", "invite", "bob", "--permit", w.path("token.json"))
	b, err := os.ReadFile(w.path("token.json"))
	if err != nil {
		t.Fatal(err)
	}
	p, err := identity.ParsePermit(b)
	if err != nil {
		t.Fatal(err)
	}
	trust, err := identity.NewTrust([]byte(p.CA))
	if err != nil {
		t.Fatal(err)
	}
	v := identity.NewVerifier(trust, identity.NewClock())
	var mu sync.Mutex
	results := map[string]int{}
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			err := redeemOnce(w, v, p, fmt.Sprintf("ep-%d", i))
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				results["admitted"]++
			case slices.Contains([]answer.Code{answer.Denied, answer.Limit, answer.Unavailable}, answer.CodeOf(err)):
				results["refused"]++ // used already, or too many at a time; none may wait in vain
			default:
				results[err.Error()]++
			}
		})
	}
	wg.Wait()
	if diff := cmp.Diff(map[string]int{"admitted": 1, "refused": 99}, results); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	// Through the command line, as a person would.
	w.ztm("root", "invite", "carol", "--permit", w.path("carol.json"))
	w.startAgent("carol")
	w.ztm("carol", "join", "demo", "--as", "ep-carol", "--permit", w.path("carol.json"))
	if diff := cmp.Diff("carol", w.endpoint("ep-carol").User); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	w.startAgent("thief")
	if _, errs, status := w.try("thief", "join", "demo", "--as", "ep-thief", "--permit", w.path("carol.json")); status != 1 || !strings.Contains(errs, "used already") {
		t.Errorf("second use: exit status %d, %s", status, errs)
	}
}

func redeemOnce(w *world, v *identity.Verifier, p *identity.Permit, name string) error {
	key, err := identity.NewKey()
	if err != nil {
		return err
	}
	public := key.Public().(ed25519.PublicKey)
	proof, err := p.Token.Prove(public, name)
	if err != nil {
		return err
	}
	cert, err := identity.SelfSigned(key, time.Now())
	if err != nil {
		return err
	}
	config := v.ClientConfig(cert, identity.RoleHub, "", identity.JoinProto)
	// A busy machine may be too slow for a handshake. What is looked at is the answer to the token.
	ctx, cancel := context.WithTimeout(context.Background(), appstest.Timeout)
	defer cancel()
	j, err := tunnel.DialJoin(ctx, &tunnel.Dialer{}, w.address, config)
	for err != nil && ctx.Err() == nil {
		j, err = tunnel.DialJoin(ctx, &tunnel.Dialer{}, w.address, config)
	}
	if err != nil {
		return err
	}
	_, err = j.Ask(ctx, tunnel.JoinRequest{Key: public, Name: name, Proof: proof})
	return err
}

func TestATakenNameDoesNotSpendTheToken(t *testing.T) {
	w := newWorld(t)
	w.join("root", "root")
	w.ztm("root", "invite", "bob", "--permit", w.path("bob.json"))
	w.startAgent("bob")
	if _, errs, status := w.try("bob", "join", "demo", "--as", "ep-root", "--permit", w.path("bob.json")); status != 1 || !strings.Contains(errs, "taken") {
		t.Errorf("exit status %d, %s", status, errs)
	}
	w.ztm("bob", "join", "demo", "--as", "ep-bob", "--permit", w.path("bob.json"))
}

func TestAnEvictionVoidsATokenThatWasNotUsedYet(t *testing.T) {
	w := newWorld(t)
	w.join("root", "root")
	w.ztm("root", "invite", "eve", "--permit", w.path("eve.json"))
	w.ztm("root", "evict", "eve")
	w.startAgent("eve")
	if _, errs, status := w.try("eve", "join", "demo", "--as", "ep-eve", "--permit", w.path("eve.json")); status != 1 || !strings.Contains(errs, "evicted") {
		t.Errorf("exit status %d, %s", status, errs)
	}
}

// A certificate that is in the last third of its life is renewed over the mesh, by an endpoint that
// holds the CA key.
func TestACertificateIsRenewedOverTheMesh(t *testing.T) {
	w := emptyWorld(t)
	then := time.Now().Add(-300 * 24 * time.Hour)
	ca := identitytest.New(t, then).CA
	p := &identity.Permit{Mesh: ca.Mesh(), CA: string(ca.CertificatePEM()), CAKey: string(ca.KeyPEM()), Bootstraps: []string{w.address}}
	root, err := p.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	w.write("root.json", string(root)) // the hub takes a root permit that is there
	w.startHub(hub.Config{})
	w.join("root", "root")
	stop := w.startAgent("old")
	key, err := identity.ParsePublicKey([]byte(w.ztm("old", "identity")))
	if err != nil {
		t.Fatal(err)
	}
	der, err := ca.SignMember(key, "bob", then, then)
	if err != nil {
		t.Fatal(err)
	}
	p.CAKey = ""
	p.Agent = &identity.PermitAgent{Certificate: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))}
	permit, err := p.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	w.write("old.json", string(permit))
	w.ztm("old", "join", "demo", "--as", "ep-old", "--permit", w.path("old.json"))
	life := func() time.Duration {
		var m api.Mesh
		if err := json.Unmarshal([]byte(w.ztm("old", "get", "mesh", "demo", "-o", "json")), &[]*api.Mesh{&m}); err != nil {
			t.Fatal(err)
		}
		return time.Until(m.Agent.NotAfter)
	}
	w.until("the certificate is a new one", func() error {
		if d := life(); d < 300*24*time.Hour {
			return fmt.Errorf("it lives for %v", d)
		}
		return nil
	})
	stop() // and it is the one on disk
	w.startAgent("old")
	w.connected("old")
	if d := life(); d < 300*24*time.Hour {
		t.Errorf("after a restart it lives for %v", d)
	}
}

func TestAnAgentIsInTwoMeshesAtOnce(t *testing.T) {
	home, work := newWorld(t), newWorld(t)
	home.join("root", "root")
	work.join("root", "root")
	home.ztm("root", "join", "work", "--as", "ep-both", "--permit", work.path("root.json"))
	home.until("both are connected", func() error {
		if out := home.ztm("root", "get", "mesh"); strings.Count(out, "Connected") != 2 {
			return errors.New(out)
		}
		return nil
	})
	listen := appstest.FreeAddress(t)
	work.ztm("root", "tunnel", "open", "outbound", "tcp/web", "--targets", echoServer(t))
	home.ztm("root", "mesh", "work", "tunnel", "open", "inbound", "tcp/web", "--listen", listen)
	wantEcho(t, listen)
	if out, errs, status := home.try("root", "get", "ep"); status != 1 || !strings.Contains(errs, "no mesh specified") {
		t.Errorf("which mesh is meant is not clear: %d, %s%s", status, out, errs)
	}
	home.ztm("root", "leave", "work")
	if out := home.ztm("root", "get", "ep"); strings.Contains(out, "ep-both") || !strings.Contains(out, "ep-root") {
		t.Errorf("after leaving one mesh:\n%s", out)
	}
}

func TestNoSecretIsLogged(t *testing.T) {
	w := newWorld(t)
	w.join("root", "root")
	w.join("bob", "bob")
	ca, p := w.ca()
	logs := w.hubLog.String() + w.ztm("root", "log", "ep") + w.ztm("bob", "log", "ep")
	for _, secret := range []string{p.CAKey, string(ca.KeyPEM()), "PRIVATE KEY"} {
		if strings.Contains(logs, strings.TrimSpace(secret)) {
			t.Errorf("a log shows %.20q…", secret)
		}
	}
}
