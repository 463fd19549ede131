package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"ztm/agent/api"
	"ztm/tunnel/direct"
	"ztm/tunnel/direct/directtest"
)

// lan is a network in which two devices meet that dial each other at the same time, as they do by
// the simultaneous open of TCP. The addresses are made up: a device dials no loopback address, and
// on loopback two SYNs hardly ever cross.
type lan struct {
	t   *testing.T
	air *directtest.Air // for datagrams

	mu      sync.Mutex
	dials   []netip.AddrPort              // all there were; guarded by mu
	waiting map[[2]netip.AddrPort]*dialer // by the dialler and what it dials; guarded by mu
	conns   []*net.TCPConn                // that came of it; guarded by mu
	blocked bool                          // no dial gets through; guarded by mu
	longest int                           // what gets through of what is written at once, in bytes; 0: all; guarded by mu
	black   bool                          // nothing that is written gets through; guarded by mu
	moved   atomic.Int64                  // bytes that got through
}

// wire is an end of a connection in a lan.
type wire struct {
	*net.TCPConn
	l *lan
}

// Write drops what does not get through, and says nothing of it.
func (w wire) Write(b []byte) (int, error) {
	w.l.mu.Lock()
	lost := w.l.black || w.l.longest > 0 && len(b) > w.l.longest
	w.l.mu.Unlock()
	if lost {
		return len(b), nil
	}
	w.l.moved.Add(int64(len(b)))
	return w.TCPConn.Write(b)
}

// dialer is one that waits for its peer.
type dialer struct{ met chan net.Conn }

func newLAN(t *testing.T) *lan {
	return &lan{t: t, air: directtest.NewAir(), waiting: map[[2]netip.AddrPort]*dialer{}}
}

// host is the network as a device of an address sees it.
func (l *lan) host(address string) *direct.Network {
	a := netip.MustParsePrefix(address)
	return &direct.Network{
		Addresses: func() (direct.Interfaces, error) { return direct.Interfaces{Own: []netip.Prefix{a}}, nil },
		Dial: func(ctx context.Context, from uint16, to netip.AddrPort) (net.Conn, error) {
			return l.dial(ctx, netip.AddrPortFrom(a.Addr(), from), to)
		},
		Socket: func() (direct.Socket, error) { return l.air.Socket(a.Addr()), nil },
	}
}

func (l *lan) dial(ctx context.Context, from, to netip.AddrPort) (net.Conn, error) {
	l.mu.Lock()
	l.dials = append(l.dials, to)
	if l.blocked {
		l.mu.Unlock()
		return nil, syscall.ECONNREFUSED
	}
	if other := l.waiting[[2]netip.AddrPort{to, from}]; other != nil {
		delete(l.waiting, [2]netip.AddrPort{to, from})
		defer l.mu.Unlock()
		near, far := l.pair()
		other.met <- far
		return near, nil
	}
	d := &dialer{make(chan net.Conn, 1)}
	l.waiting[[2]netip.AddrPort{from, to}] = d
	l.mu.Unlock()
	select {
	case c := <-d.met:
		return c, nil
	case <-ctx.Done():
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case c := <-d.met:
		return c, nil
	default:
		delete(l.waiting, [2]netip.AddrPort{from, to})
		return nil, ctx.Err()
	}
}

// pair is a connection and its other end. l.mu is held.
func (l *lan) pair() (near, far net.Conn) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		l.t.Error(err)
		return
	}
	defer ln.Close()
	near, err = net.Dial("tcp", ln.Addr().String())
	if err == nil {
		far, err = ln.Accept()
	}
	if err != nil {
		l.t.Error(err)
		return
	}
	l.conns = append(l.conns, near.(*net.TCPConn), far.(*net.TCPConn))
	return wire{near.(*net.TCPConn), l}, wire{far.(*net.TCPConn), l}
}

// set changes what gets through.
func (l *lan) set(change func(*lan)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change(l)
}

// dialled lists what was dialled until now.
func (l *lan) dialled() []netip.AddrPort {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]netip.AddrPort{}, l.dials...)
}

// breakAll ends all direct connections.
func (l *lan) breakAll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.conns {
		c.SetLinger(0)
		c.Close()
	}
}

// neighbour has an agent join that is in a network.
func (w *world) neighbour(l *lan, agent, address string) {
	w.t.Helper()
	w.options.Network = l.host(address)
	w.join(agent, agent)
}

// neighbours are root and bob in one network, and a tunnel from root to bob's service.
func (w *world) neighbours(l *lan, target string) (listen string) {
	w.t.Helper()
	w.neighbour(l, "root", "10.1.0.1/24")
	w.neighbour(l, "bob", "10.1.0.2/24")
	return w.tunnelTo("root", "bob", "web", target, "--users", "root")
}

// route is how flows of an agent go to an endpoint.
func (w *world) route(agent, to string) api.Route {
	w.t.Helper()
	var ep api.Endpoint
	if err := json.Unmarshal([]byte(w.ztm(agent, "describe", "ep", to, "-o", "json")), &ep); err != nil {
		w.t.Fatal(err)
	}
	return ep.Route
}

func (w *world) untilDirect(agent, to string) {
	w.t.Helper()
	w.until("flows from "+agent+" to "+to+" are direct", func() error {
		if r := w.route(agent, to); r.Direct != "LAN" {
			return errors.New(r.String())
		}
		return nil
	})
}

// keptFlow is a flow that is open and moves bytes when it is asked to.
func keptFlow(t *testing.T, address string) (say func(string) error) {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return func(text string) error {
		c.SetDeadline(time.Now().Add(60 * time.Second))
		if _, err := io.WriteString(c, text); err != nil {
			return err
		}
		got := make([]byte, len(text))
		if _, err := io.ReadFull(c, got); err != nil || string(got) != text {
			return fmt.Errorf("%q came back, %v", got, err)
		}
		return nil
	}
}

func TestAFlowThatLastsMakesAWayWithoutTheHub(t *testing.T) {
	w := newWorld(t)
	listen := w.neighbours(newLAN(t), echoServer(t))
	say := keptFlow(t, listen)
	if err := say("relayed at first"); err != nil {
		t.Fatal(err)
	}
	if r := w.route("root", "ep-bob"); r.Direct != "" {
		t.Errorf("at once: %v", r)
	}
	w.untilDirect("root", "ep-bob")
	if err := say("and it goes on"); err != nil {
		t.Error(err)
	}
	wantEcho(t, listen)
	if out := w.ztm("root", "ping", "ep", "ep-bob"); !strings.Contains(out, "direct (LAN 10.1.0.2:") {
		t.Errorf("ping says:\n%s", out)
	}
	if out := w.ztm("bob", "get", "ep", "-o", "wide"); !strings.Contains(out, "direct (LAN 10.1.0.1:") {
		t.Errorf("the other side says:\n%s", out)
	}
}

// To begin with a flow the directory is asked, which the hub has.
func TestFlowsThatAreDirectGoOnWithoutTheHub(t *testing.T) {
	w := newWorld(t)
	listen := w.neighbours(newLAN(t), echoServer(t))
	say := keptFlow(t, listen)
	w.untilDirect("root", "ep-bob")
	again := keptFlow(t, listen)
	if err := again("direct"); err != nil {
		t.Fatal(err)
	}
	w.stopHub()
	if err := say("relayed"); err == nil {
		t.Error("a relayed flow goes on without the hub: the test shows nothing")
	}
	if err := again("direct still"); err != nil {
		t.Error(err)
	}
}

func TestFlowsAreRelayedAgainWhereTheDirectWayBreaks(t *testing.T) {
	w := newWorld(t)
	l := newLAN(t)
	listen := w.neighbours(l, echoServer(t))
	keptFlow(t, listen)
	w.untilDirect("root", "ep-bob")
	wantEcho(t, listen)
	l.set(func(l *lan) { l.blocked = true })
	l.breakAll()
	wantEcho(t, listen)
	w.until("it is said why", func() error {
		if r := w.route("root", "ep-bob"); r.Direct != "" || r.Why == "" {
			return errors.New(r.String())
		}
		return nil
	})
}

func TestNoDeviceMeetsAnotherWhereThatIsTurnedOff(t *testing.T) {
	for name, side := range map[string]string{"by the one that would begin": "root", "by the other one": "bob"} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			l := newLAN(t)
			listen := w.neighbours(l, echoServer(t))
			w.ztm(side, "config", "direct", "off")
			keptFlow(t, listen)
			want := map[string]string{"root": "turned off for this endpoint", "bob": "the other side does not take part"}[side]
			w.whyRelayed("root", "ep-bob", want)
			wantEcho(t, listen)
			if d := l.dialled(); len(d) > 0 {
				t.Errorf("dialled: %v", d)
			}
			w.ztm(side, "config", "direct", "auto")
		})
	}
}

func TestWhatIsDirectEndsWithItsFlowsWhereThatIsTurnedOff(t *testing.T) {
	for side, other := range map[string]string{"root": "ep-bob", "bob": "ep-root"} { // root began
		t.Run("by "+side, func(t *testing.T) {
			w := newWorld(t)
			listen := w.neighbours(newLAN(t), echoServer(t))
			keptFlow(t, listen)
			w.untilDirect("root", "ep-bob")
			say := keptFlow(t, listen)
			if err := say("direct"); err != nil {
				t.Fatal(err)
			}
			w.ztm(side, "config", "direct", "off")
			if err := say("still whole"); err != nil {
				t.Error(err)
			}
			wantEcho(t, listen)
			if r := w.route(side, other); r.Why != "turned off for this endpoint" {
				t.Errorf("where it was turned off: %v", r)
			}
			w.until("new flows are relayed", func() error {
				if r := w.route("root", "ep-bob"); r.Direct != "" {
					return errors.New(r.String())
				}
				return nil
			})
			wantEcho(t, listen)
			if err := say("whole to the end"); err != nil {
				t.Error(err)
			}
		})
	}
}

// The mesh says it once, and an endpoint that would like to is held as well as one that is asked.
func TestThePolicySaysHowFarAllDevicesGoWithoutAHub(t *testing.T) {
	w := newWorld(t)
	listen := w.neighbours(newLAN(t), echoServer(t))
	keptFlow(t, listen)
	w.untilDirect("root", "ep-bob")
	w.ztm("root", "policy", "direct", "off")
	for agent, to := range map[string]string{"root": "ep-bob", "bob": "ep-root"} {
		w.whyRelayed(agent, to, "turned off for this endpoint")
	}
	if _, said, _ := w.try("bob", "config", "direct", "auto"); !strings.Contains(said, "off") { // what it wants, and not what it may
		t.Errorf("nothing is said of the policy: %q", said)
	}
	if out := w.ztm("bob", "config", "direct"); strings.TrimSpace(out) != "off" {
		t.Errorf("an endpoint takes itself out of the policy: %s", out)
	}
	wantEcho(t, listen)
	w.ztm("root", "policy", "direct", "auto")
	w.until("it may again", func() error {
		if out := w.ztm("bob", "config", "direct"); strings.TrimSpace(out) != "auto" {
			return errors.New(out)
		}
		return nil
	})
}

// whyRelayed waits until flows are relayed for a reason.
func (w *world) whyRelayed(agent, to, why string) {
	w.t.Helper()
	w.until("it is said why", func() error {
		if r := w.route(agent, to); r.Direct != "" || !strings.Contains(r.Why, why) {
			return errors.New(r.String())
		}
		return nil
	})
}

// Small packets pass, large ones are lost without a word, as where a router drops what is too long
// for the next network.
func TestAWayThatDropsLargePacketsIsNotUsed(t *testing.T) {
	w := newWorld(t)
	l := newLAN(t)
	l.set(func(l *lan) { l.longest = 8 << 10 })
	listen := w.neighbours(l, echoServer(t))
	keptFlow(t, listen)
	w.whyRelayed("root", "ep-bob", "does not pass")
	wantEcho(t, listen)
}

func TestFlowsThatBeginAreRelayedWhereTheDirectWayIsSilent(t *testing.T) {
	w := newWorld(t)
	l := newLAN(t)
	listen := w.neighbours(l, echoServer(t))
	keptFlow(t, listen)
	w.untilDirect("root", "ep-bob")
	wantEcho(t, listen)
	l.set(func(l *lan) { l.black, l.blocked = true, true })
	wantEcho(t, listen)
	w.whyRelayed("root", "ep-bob", "broke")
	wantEcho(t, listen)
}

func TestAFlowThatMovesMuchGetsADirectConnectionOfItsOwn(t *testing.T) {
	w := newWorld(t)
	l := newLAN(t)
	listen := w.neighbours(l, echoServer(t))
	keptFlow(t, listen)
	w.untilDirect("root", "ep-bob")
	c, err := net.Dial("tcp", listen)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(60 * time.Second))
	part := bytes.Repeat([]byte("0123456789abcdef"), 16<<10)
	move := func() {
		t.Helper()
		wrote := make(chan error, 1)
		go func() { // awaited below
			_, err := c.Write(part)
			wrote <- err
		}()
		got := make([]byte, len(part))
		if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, part) {
			t.Fatalf("other bytes came back, %v", err)
		}
		if err := <-wrote; err != nil {
			t.Fatal(err)
		}
	}
	w.until("the flow has a connection of its own", func() error {
		move()
		var s api.Stats
		if err := json.Unmarshal([]byte(w.ztm("bob", "stats", "ep", "-o", "json")), &s); err != nil {
			return err
		}
		if s.Offloaded != 1 {
			return fmt.Errorf("%d flows are offloaded", s.Offloaded)
		}
		return nil
	})
	w.stopHub() // what goes through it ends
	move()
	move()
}

func TestAnEvictedUserIsCutOffOnADirectPath(t *testing.T) {
	w := newWorld(t)
	l := newLAN(t)
	w.options.Network = l.host("10.1.0.1/24")
	w.join("root", "root")
	w.options.Network = l.host("10.1.0.2/24")
	w.join("bob", "bob")
	w.options.Network = l.host("10.1.0.3/24")
	w.join("eve", "eve")
	listen := w.tunnelTo("eve", "bob", "web", echoServer(t), "--users", "eve", "root")
	keptFlow(t, listen)
	w.untilDirect("eve", "ep-bob")
	say := keptFlow(t, listen)
	if err := say("direct"); err != nil {
		t.Fatal(err)
	}
	w.ztm("root", "evict", "eve")
	w.until("the direct flow of an evicted user ends", func() error { // the exit hears of it in a moment
		if err := say("and now"); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			return fmt.Errorf("it lives on: %v", err)
		}
		return nil
	})
}

// Flows of before and after each change are whole: those that began stay where they are.
func TestFlowsAreWholeOverManyChangesOfThePath(t *testing.T) {
	w := newWorld(t)
	listen := w.neighbours(newLAN(t), echoServer(t))
	says := []func(string) error{keptFlow(t, listen)}
	w.untilDirect("root", "ep-bob")
	for i := range 10 { // a peer begins six rounds in a minute at most
		mode := []string{"off", "auto"}[i%2]
		says = append(says, keptFlow(t, listen)) // in the session of the change before
		w.ztm("root", "config", "direct", mode)
		says = append(says, keptFlow(t, listen)) // as the path changes
		if mode == "auto" {
			w.untilDirect("root", "ep-bob")
		} else if r := w.route("root", "ep-bob"); r.Direct != "" {
			t.Errorf("turned off, and %v", r)
		}
		for j, say := range says {
			if err := say(strings.Repeat(fmt.Sprintf("change %d, flow %d. ", i, j), 500)); err != nil {
				t.Fatalf("after change %d flow %d is not whole: %v", i, j, err)
			}
		}
	}
}

func TestTheHubLearnsNoLocalAddress(t *testing.T) {
	w := newWorld(t)
	listen := w.neighbours(newLAN(t), echoServer(t))
	keptFlow(t, listen)
	w.untilDirect("root", "ep-bob")
	known := w.hubLog.String()
	filepath.WalkDir(w.path("hub"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			b, _ := os.ReadFile(path)
			known += string(b)
		}
		return nil
	})
	if !strings.Contains(known, "ep-bob") {
		t.Fatal("the hub's database was not read")
	}
	if strings.Contains(known, "10.1.0.") {
		t.Error("the hub knows a local address")
	}
}
