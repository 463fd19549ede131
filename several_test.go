package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"ztm/agent/api"
	"ztm/apps/appstest"
	"ztm/hub"
)

// several is a mesh with several hubs, each behind a gate.
type several struct {
	*world
	gates  []*gate
	linked bool // hubs know of each other
	stops  []func()
}

// newSeveral starts hubs. They have the same root permit, and do not know of each other.
func newSeveral(t testing.TB, hubs int) *several { return startSeveral(t, hubs, false) }

// newLinked starts hubs that are linked.
func newLinked(t testing.TB, hubs int) *several { return startSeveral(t, hubs, true) }

func startSeveral(t testing.TB, hubs int, linked bool) *several {
	t.Helper()
	s := &several{world: emptyWorld(t), linked: linked}
	for range hubs {
		s.gates = append(s.gates, newGate(t, appstest.FreeAddress(t)))
	}
	for i := range s.gates {
		s.stops = append(s.stops, s.startHubAt(i))
	}
	t.Cleanup(s.end) // before the hubs, which wait for paths
	return s
}

// end ends what goes through the gates. A device on whose paths nothing comes takes a while to notice.
func (s *several) end() {
	for _, g := range s.gates {
		g.end()
	}
}

// startHubAt starts hub i, again if it was stopped.
func (s *several) startHubAt(i int) (stop func()) {
	s.t.Helper()
	started := make(chan struct{})
	c := hub.Config{
		Data: s.path(fmt.Sprint("hub", i)), Listen: s.gates[i].to, Names: []string{s.gates[i].address}, Permit: s.path("root.json"),
		Log: slog.New(slog.NewTextHandler(s.hubLog, nil)), Started: func(hub.Started) { close(started) }, Drain: drainTime,
	}
	if s.linked {
		c.Peers = slices.DeleteFunc(s.addresses(), func(a string) bool { return a == s.gates[i].address })
	}
	h, err := hub.New(c)
	if err != nil {
		s.t.Fatal(err)
	}
	stop, ended := s.background(fmt.Sprint("hub ", i), h.Run)
	select {
	case <-started:
	case <-ended:
		s.t.Fatal("a hub did not start")
	}
	return stop
}

// drainTime is how long agents have to go elsewhere when a hub ends.
const drainTime = 6 * time.Second

// addresses are where the hubs are reached.
func (s *several) addresses() (out []string) {
	for _, g := range s.gates {
		out = append(out, g.address)
	}
	return out
}

// attach joins an agent, and waits until it has sessions with n hubs.
func (s *several) attach(name, user string, n int) (stop func()) {
	s.t.Helper()
	stop = s.join(name, user)
	s.ztm(name, append([]string{"set", "hubs"}, s.addresses()...)...)
	s.attached(name, n)
	return stop
}

// hubs are the hubs as an agent sees them.
func (s *several) hubs(name string) (hubs []api.Hub) {
	s.t.Helper()
	if err := json.Unmarshal([]byte(s.ztm(name, "get", "hub", "-o", "json")), &hubs); err != nil {
		s.t.Fatal(err)
	}
	return hubs
}

// attached waits until an agent has sessions with n hubs.
func (s *several) attached(name string, n int) {
	s.t.Helper()
	s.until(fmt.Sprintf("%s has sessions with %d hubs", name, n), func() error {
		got := 0
		hubs := s.hubs(name)
		for _, h := range hubs {
			if h.Connected {
				got++
			}
		}
		if got != n {
			return fmt.Errorf("%+v", hubs)
		}
		return nil
	})
}

// talk is a flow that stands: what it is sent comes back.
type talk struct{ net.Conn }

func dialTalk(t testing.TB, address string) talk {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return talk{c}
}

// says sends so many bytes and wants them back.
func (c talk) says(n int, within time.Duration) error {
	c.SetDeadline(time.Now().Add(within))
	sent := make(chan error, 1)
	go func() { // ends with the deadline
		_, err := c.Write([]byte(strings.Repeat("x", n)))
		sent <- err
	}()
	_, err := io.ReadFull(c, make([]byte, n))
	return errors.Join(err, <-sent)
}

// carries is the gate that the bytes of a flow pass.
func (s *several) carries(c talk) int {
	s.t.Helper()
	before := make([]int64, len(s.gates))
	for i, g := range s.gates {
		before[i] = g.passed.Load()
	}
	const much = 200 << 10
	if err := c.says(much, appstest.Timeout); err != nil {
		s.t.Fatal(err)
	}
	for i, g := range s.gates {
		if g.passed.Load()-before[i] >= much {
			return i
		}
	}
	s.t.Fatal("no gate was passed")
	return -1
}

// soon is what a new flow may take in a test, on a busy machine. What it takes on one at rest is
// measured elsewhere.
const soon = 10 * time.Second

func TestAnAgentHasSessionsWithTwoHubsAndIsReachedThroughBoth(t *testing.T) {
	for what, lose := range map[string]func(s *several, i int){
		"one hangs":  func(s *several, i int) { s.gates[i].close() },
		"one is cut": func(s *several, i int) { s.gates[i].cut() },
	} {
		t.Run(what, func(t *testing.T) {
			s := newSeveral(t, 2)
			s.attach("root", "root", 2)
			s.attach("bob", "bob", 2)
			listen := s.tunnelTo("root", "bob", "web", echoServer(t), "--users", "root")
			defer s.end()
			first := dialTalk(t, listen)
			lost := s.carries(first)
			lose(s, lost)
			for range 3 {
				if err := dialTalk(t, listen).says(1, soon); err != nil {
					t.Fatalf("a new flow: %v", err)
				}
			}
			if err := first.says(1, soon); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("the flow through the hub that was lost does not end: %v", err)
			}
			if now := s.carries(dialTalk(t, listen)); now == lost {
				t.Error("a new flow passes the hub that was lost")
			}
		})
	}
}

func TestAFlowThatDoesNotPassAHubThatHangsIsUntouched(t *testing.T) {
	s := newSeveral(t, 2)
	s.attach("root", "root", 2)
	s.attach("bob", "bob", 2)
	listen := s.tunnelTo("root", "bob", "web", echoServer(t), "--users", "root")
	c := dialTalk(t, listen)
	other := 1 - s.carries(c)
	s.gates[other].close()
	for range 5 {
		if err := c.says(100, soon); err != nil {
			t.Fatalf("the flow: %v", err)
		}
		if err := dialTalk(t, listen).says(1, soon); err != nil {
			t.Fatalf("a new flow: %v", err)
		}
	}
	s.gates[other].open()
	s.attached("root", 2)
	if err := c.says(100, soon); err != nil {
		t.Errorf("the flow, later: %v", err)
	}
}

func TestAHubWithTwoAddressesIsOneHub(t *testing.T) {
	s := newSeveral(t, 1)
	again := newGate(t, s.gates[0].to)
	s.join("root", "root")
	s.ztm("root", "set", "hubs", s.gates[0].address, again.address)
	s.attached("root", 1)
	s.until("it is known that both are the same", func() error {
		if hubs := s.hubs("root"); len(hubs) != 1 {
			return fmt.Errorf("%+v", hubs)
		}
		return nil
	})
}

func TestAnAgentThatLostItsWayIsRepairedByHand(t *testing.T) {
	s := newSeveral(t, 1)
	s.join("root", "root")
	moved := newGate(t, s.gates[0].to)
	s.gates[0].cut()
	s.ztm("root", "set", "hubs", moved.address)
	s.until("it is connected at the new address", func() error {
		for _, h := range s.hubs("root") {
			if h.Connected && h.Address == moved.address {
				return nil
			}
		}
		return errors.New("not yet")
	})
}

func TestAgentsLearnOfOtherHubsAndFindThemAgain(t *testing.T) {
	s := newLinked(t, 3)
	s.join("root", "root") // whose permit names the first hub alone
	s.attached("root", 2)
	s.until("all hubs are known", func() error {
		if hubs := s.hubs("root"); len(hubs) != 3 {
			return fmt.Errorf("%+v", hubs)
		}
		return nil
	})
	stop := s.join("bob", "bob")
	s.attached("bob", 2)
	stop()
	s.gates[0].cut() // the one that the permit names
	s.startAgent("bob")
	s.connected("bob")
	s.attached("bob", 2)
	s.attached("root", 2)
	wantEcho(t, s.tunnelTo("root", "bob", "web", echoServer(t), "--users", "root"))
}

func TestAHubThatDrainsIsLeftAndItsFlowsGoOn(t *testing.T) {
	s := newLinked(t, 3)
	s.attach("root", "root", 2)
	s.attach("bob", "bob", 2)
	listen := s.tunnelTo("root", "bob", "web", echoServer(t), "--users", "root")
	c := dialTalk(t, listen)
	draining := s.carries(c)
	ended := make(chan struct{})
	go func() { // awaited below
		defer close(ended)
		s.stops[draining]()
	}()
	for _, name := range []string{"root", "bob"} {
		s.until(name+" has left the hub that drains", func() error {
			n := 0
			for _, h := range s.hubs(name) {
				if h.Connected && h.Address != s.gates[draining].address {
					n++
				}
			}
			if n != 2 {
				return fmt.Errorf("%+v", s.hubs(name))
			}
			return nil
		})
	}
	select {
	case <-ended:
	default:
		if err := c.says(100, soon); err != nil {
			t.Errorf("a flow through the hub that drains: %v", err)
		}
	}
	if err := dialTalk(t, listen).says(1, soon); err != nil {
		t.Errorf("a new flow: %v", err)
	}
	<-ended
}

// with waits until an agent is with a hub, and returns where that is.
func (s *several) with(name string) (address string) {
	s.t.Helper()
	s.until(name+" is with a hub", func() error {
		for _, h := range s.hubs(name) {
			if h.Connected {
				address = h.Address
				return nil
			}
		}
		return errors.New("with none")
	})
	return address
}

func TestEndpointsThatShareNoHubReachEachOther(t *testing.T) {
	s := newLinked(t, 2)
	s.options.Hubs = 1
	s.join("root", "root")
	for i := range 20 { // each is with either hub, by its ID
		name := fmt.Sprint("bob", i)
		s.join(name, name)
		if s.with(name) == s.with("root") {
			continue
		}
		wantEcho(t, s.tunnelTo("root", name, "web", echoServer(t), "--users", "root"))
		return
	}
	t.Error("all are with the same hub")
}

// The hubs do not know of each other: so it is where they are cut off from each other.
func TestAnEndpointIsFoundAtWhateverHubItIsWith(t *testing.T) {
	s := newSeveral(t, 2)
	s.attach("root", "root", 2)
	s.options.Hubs = 1
	seen := map[string]bool{}
	for i := 0; len(seen) < 2; i++ { // each is with either hub, by its ID
		if i == 20 {
			t.Fatal("all are with the same hub")
		}
		name := fmt.Sprint("bob", i)
		s.join(name, name)
		at := s.with(name)
		if seen[at] {
			continue
		}
		seen[at] = true
		wantEcho(t, s.tunnelTo("root", name, name, echoServer(t), "--users", "root"))
	}
}

// Two rotations at hubs that do not hear of each other would be two meshes.
func TestTheKeyIsReplacedOnlyWhereAllHubsAreLinked(t *testing.T) {
	for linked, start := range map[bool]func(testing.TB, int) *several{false: newSeveral, true: newLinked} {
		s := start(t, 2)
		s.attach("root", "root", 2)
		permit := s.path("new.json")
		rotate := func() (errs string, status int) {
			_, errs, status = s.try("root", "rotate", "root", "--permit", permit, "--grace", "10m")
			return errs, status
		}
		if linked {
			s.until("the key is replaced", func() error {
				if errs, status := rotate(); status != 0 {
					return errors.New(errs)
				}
				return nil
			})
			continue
		}
		before := s.membership("root").CA
		if errs, status := rotate(); status != 1 || !strings.Contains(errs, "is linked with 0 of 1 other hubs") {
			t.Errorf("exit status %d, %s", status, errs)
		}
		if s.membership("root").CA != before {
			t.Error("the key was replaced")
		}
	}
}

// What new flows take while a hub hangs, on ways of so many milliseconds to each hub and back. The
// flow that finds it out is the slow one.
func BenchmarkANewFlowWhileAHubHangs(b *testing.B) {
	for _, rtt := range []time.Duration{0, 50 * time.Millisecond, 100 * time.Millisecond} {
		b.Run(rtt.String(), func(b *testing.B) {
			var worst time.Duration
			for range b.N {
				s := newSeveral(b, 2)
				s.attach("root", "root", 2)
				s.attach("bob", "bob", 2)
				listen := s.tunnelTo("root", "bob", "web", echoServer(b), "--users", "root")
				defer s.end()
				for _, g := range s.gates {
					g.delay.Store(int64(rtt / 2))
				}
				hangs := s.carries(dialTalk(b, listen))
				s.gates[hangs].close()
				began := time.Now()
				if err := dialTalk(b, listen).says(1, soon); err != nil {
					b.Fatal(err)
				}
				worst = max(worst, time.Since(began))
			}
			b.ReportMetric(float64(worst.Milliseconds()), "ms-worst")
		})
	}
}

func TestAJoinGoesOnAtTheNextHub(t *testing.T) {
	s := newSeveral(t, 2)
	s.options.Hubs = 1
	s.join("root", "root") // with one of the two, which do not know of each other
	silent := newGate(t, s.gates[0].to)
	silent.close()
	s.startAgent("bob")
	s.ztm("root", append([]string{"set", "hubs", silent.address}, s.addresses()...)...)
	s.ztm("root", "invite", "bob", "--permit", s.path("bob.json"))
	s.ztm("bob", "join", "demo", "--as", "ep-bob", "--permit", s.path("bob.json"))
	s.connected("bob")
}
