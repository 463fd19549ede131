//go:build linux

package e2e

import (
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// How long a broken flow may look like a slow one.
const (
	atOnce = 10 * time.Second // a process died: the kernel tells the others, before anybody has to ask
	asked  = 15 * time.Second // a process or a network stands still: those at the other end have to ask
	margin = 15 * time.Second // for a machine that has much else to do
)

// parties are those that can fail.
var parties = []string{"hub", "entrance", "exit"}

// TestKill: when the hub or an agent is killed in the middle of transfers, both ends of every flow get an error at
// once, nothing is mistaken for a complete transfer, and all heals when it is back.
func TestKill(t *testing.T) {
	for _, who := range parties {
		t.Run(who, func(t *testing.T) {
			t.Parallel()
			b := newBreakage(t)
			b.load(5)
			start := time.Now()
			b.process(who).kill()
			b.await(atOnce, 2*5, 2*5)
			t.Logf("all flows had ended %v after the kill of the %s", time.Since(start).Round(time.Millisecond), who)
			// What the killed process had open, its kernel has closed: that may look like an end.
			b.noneLooksComplete(map[string]string{"entrance": "client", "exit": "server"}[who])
			b.restart(who)
			b.heals()
		})
	}
}

// TestFreeze: when the hub or an agent stands still, those at the other end of its flows notice, and the flows fail;
// all heals when it goes on.
func TestFreeze(t *testing.T) {
	for _, who := range parties {
		t.Run(who, func(t *testing.T) {
			t.Parallel()
			b := newBreakage(t)
			b.load(2)
			start := time.Now()
			b.process(who).signal(syscall.SIGSTOP)
			defer b.process(who).cmd.Process.Signal(syscall.SIGCONT)
			// Whoever talks to the frozen process itself, by way of a kernel that is well, cannot know.
			clients, servers := 2*2, 2*2
			switch who {
			case "entrance":
				clients = 0
			case "exit":
				servers = 0
			}
			b.await(asked+margin, clients, servers)
			t.Logf("all flows had ended %v after the %s froze", time.Since(start).Round(time.Millisecond), who)
			b.process(who).signal(syscall.SIGCONT)
			b.await(asked+margin, 2*2, 2*2)
			b.noneLooksComplete("")
			b.heals()
		})
	}
}

// breakage is a mesh that is about to suffer, and flows on which it shows.
type breakage struct {
	*mesh
	t                testing.TB
	exit             *agent
	down, up, echo   string         // entrances of tunnels
	services         []*server      // their targets
	before           map[string]int // how many files each party had open
	underway         atomic.Int64   // flows through which data has come
	endings          chan ending    // what the ends of flows got
	clients, servers []error        // what came from endings
}

// ending is how one end of a flow ended.
type ending struct {
	server bool
	err    error
}

func newBreakage(t testing.TB) *breakage {
	b := &breakage{t: t, mesh: newMesh(t, options{binary: racing}), endings: make(chan ending, 100)}
	b.exit = b.addAgent("ep-bob", "bob")
	for _, a := range b.agents {
		a.ztm("config", "direct", "off") // what breaks here are flows through the hub
	}
	source := serve(t, func(c *net.TCPConn) { b.endings <- ending{true, pour(c, new(atomic.Int64))} })
	sink := serve(t, func(c *net.TCPConn) { b.endings <- ending{true, drain(c, b.begun)} })
	loop := echoes(t)
	b.services = []*server{source, sink, loop}
	b.down = b.root.tunnel("down", b.exit, source.address())
	b.up = b.root.tunnel("up", b.exit, sink.address())
	b.echo = b.root.tunnel("echo", b.exit, loop.address())
	if err := echo(b.echo); err != nil {
		t.Fatal(err)
	}
	b.before = b.open()
	return b
}

// process returns the process of a party.
func (b *breakage) process(who string) *process {
	switch who {
	case "hub":
		return b.hub
	case "entrance":
		return b.root.process
	}
	return b.exit.process
}

func (b *breakage) restart(who string) {
	switch who {
	case "hub":
		b.startHub()
	case "entrance":
		b.root.start()
	default:
		b.exit.start()
	}
}

// open returns how many files each party has open.
func (b *breakage) open() map[string]int {
	n := map[string]int{}
	for _, who := range parties {
		n[who] = b.process(who).files()
	}
	return n
}

// files returns how many files the process has open. Pipes are not counted: the runtime keeps those through which data
// was spliced until its collector comes along.
func (p *process) files() (n int) {
	p.t.Helper()
	for _, file := range p.fds() {
		if !strings.HasPrefix(file, "pipe:") {
			n++
		}
	}
	return n
}

func (b *breakage) begun() { b.underway.Add(1) }

// load starts n downloads and n uploads and returns when data comes through all of them.
func (b *breakage) load(n int) {
	b.t.Helper()
	for range n {
		down, up := dial(b.t, b.down), dial(b.t, b.up)
		go func() { b.endings <- ending{false, drain(down, b.begun)} }() // ends with the flow
		go func() { b.endings <- ending{false, pour(up, new(atomic.Int64))} }()
	}
	await(b.t, "data comes through all flows", func() bool { return b.underway.Load() == int64(2*n) })
}

// connections returns how many connections the services have.
func (b *breakage) connections() (n int) {
	for _, s := range b.services {
		n += s.open()
	}
	return n
}

// await waits until so many clients' and servers' ends of the flows have ended, in all.
func (b *breakage) await(limit time.Duration, clients, servers int) {
	b.t.Helper()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for len(b.clients) < clients || len(b.servers) < servers {
		select {
		case e := <-b.endings:
			if e.server {
				b.servers = append(b.servers, e.err)
			} else {
				b.clients = append(b.clients, e.err)
			}
		case <-timer.C:
			b.t.Fatalf("after %v, of %d clients %d have ended, of %d servers %d", limit, clients, len(b.clients), servers, len(b.servers))
		}
	}
}

// noneLooksComplete fails the test if a reader was told of an end where there was none. One side may be excused.
func (b *breakage) noneLooksComplete(excused string) {
	b.t.Helper()
	for side, errs := range map[string][]error{"client": b.clients, "server": b.servers} {
		for _, err := range errs {
			if err == errTruncated && side != excused {
				b.t.Errorf("a %s: %v", side, err)
			}
		}
	}
}

// heals waits until the mesh works as before, and checks that nothing is left of what was broken.
func (b *breakage) heals() {
	b.t.Helper()
	start := time.Now()
	for _, a := range b.agents {
		a.awaitConnected()
	}
	b.t.Logf("all agents were connected after %v", time.Since(start).Round(time.Millisecond))
	var err error
	await(b.t, "the tunnel works again", func() bool { err = echo(b.echo); return err == nil })
	b.t.Logf("the tunnel worked after %v", time.Since(start).Round(time.Millisecond))
	await(b.t, "no connection is left at the services", func() bool { return b.connections() == 0 })
	for _, who := range parties {
		b.noFileIsLeft(who)
	}
	b.noGoroutineIsLeft()
	for _, address := range []string{b.listen, b.down, b.up, b.echo} {
		if listens(address) {
			b.t.Errorf("somebody listens on %s though all have ended", address)
		}
	}
}

// noFileIsLeft waits until a party has no more files open than before the breakage.
func (b *breakage) noFileIsLeft(who string) {
	b.t.Helper()
	p := b.process(who)
	defer func() {
		if b.t.Failed() {
			b.t.Logf("the %s has open: %q", who, p.fds())
		}
	}()
	await(b.t, fmt.Sprintf("the %s has no more than %d files open", who, b.before[who]), func() bool {
		return p.files() <= b.before[who]
	})
}

// noGoroutineIsLeft ends all processes. The hub carries two warm sessions still, that of the tunnels
// and that in which the exit asked the holder of the CA key for its policy; the agents have no flow.
func (b *breakage) noGoroutineIsLeft() {
	b.t.Helper()
	for _, who := range parties {
		flow := "ztm/tunnel/splice."
		if who == "hub" { // there the sessions of agents at rest wait in that package, too
			flow = "ztm/tunnel/splice.transfer("
		}
		p := b.process(who)
		n := 0
		for _, stack := range p.goroutines() {
			if strings.Contains(stack, flow) {
				n++
			}
		}
		if who == "hub" && n > 4 || who != "hub" && n > 0 {
			b.t.Errorf("the %s has %d goroutines that move data\n%s", who, n, p.output())
		}
	}
}
