package main

import (
	"bytes"
	"context"
	"encoding/json"
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

	"ztm/agent"
	"ztm/agent/api"
	"ztm/apps/appstest"
	"ztm/hub"
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
	w.untilWithin(90*time.Second, what, f)
}

func (w *world) untilWithin(limit time.Duration, what string, f func() error) {
	w.t.Helper()
	deadline := time.NewTimer(limit)
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
	for _, tt := range [][2]string{
		{"/healthz", "ok"},
		{"/metrics", `ztm_mesh_connected{mesh="demo"} 1`},
		{"/metrics", "ztm_agent_goroutines "},
		{"/metrics/demo", `tunnel="tcp/web"`},
	} {
		path, want := tt[0], tt[1]
		if got := get(path); !strings.Contains(got, want) {
			t.Errorf("%s has no %s:\n%s", path, want, got)
		}
	}
	if _, err := agent.New(agent.Config{Data: w.path("open"), Metrics: "0.0.0.0:9101"}); err == nil {
		t.Error("counters are shown to the world")
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
