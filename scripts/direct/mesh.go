//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"ztm/scripts/process"
)

// timeout is how long anything may take.
const timeout = 30 * time.Second

// rig is a mesh of two agents in a world.
type rig struct {
	ctx   context.Context
	world *world
	group process.Group
	ztm   string
	self  string // this program
	dir   string
	hub   *process.Process
}

// try sets up a pair of routers and measures it.
func try(ctx context.Context, ztm, dir, prefix string, p pair, m moves) (r row, err error) {
	w := newWorld(prefix, p)
	defer func() { err = errors.Join(err, w.End()) }()
	if w.Err() != nil {
		return r, w.Err()
	}
	self, err := os.Executable()
	if err != nil {
		return r, err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return r, err
	}
	g := &rig{ctx: ctx, world: w, group: process.Group{Dir: dir}, ztm: ztm, self: self, dir: dir}
	defer g.group.End(5 * time.Second)
	if err := g.start(); err != nil {
		return r, err
	}
	return g.measure(p, m)
}

// start makes the mesh, and a tunnel from a to a target at b.
func (g *rig) start() error {
	steps := []func() error{
		func() (err error) {
			g.hub, err = g.run("hub", "hub", g.ztm, "run", "hub", "--data", "hub-data", "--listen", hubIP+":8888", "--names", hubIP+":8888", "--permit", "root.json")
			return err
		},
		func() error { return g.exists("root.json") },
		func() error { return g.keep("a", "a", g.ztm, "run", "agent", "--data", "a-data") },
		func() error { return g.keep("b", "b", g.ztm, "run", "agent", "--data", "b-data") },
		func() error { return g.keep("b", "target", g.self, "-serve", "127.0.0.1:9000") },
		func() error { return g.until("a", "join", "demo", "--as", "a", "--permit", "root.json") },
		func() error { return g.until("b", "join", "demo", "--as", "b", "--permit", "root.json") },
		func() error {
			return g.until("b", "tunnel", "open", "outbound", "tcp/x", "--targets", "127.0.0.1:9000")
		},
		func() error { return g.until("a", "tunnel", "open", "inbound", "tcp/x", "--listen", "127.0.0.1:9001") },
		func() error {
			return g.until("b", "tunnel", "open", "outbound", "udp/x", "--targets", "127.0.0.1:9000")
		},
		func() error { return g.until("a", "tunnel", "open", "inbound", "udp/x", "--listen", "127.0.0.1:9005") },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// moves is what is moved over each path.
type moves struct {
	size   int64 // bytes
	rounds int
}

// The tunnel's entrance, and those of two relays that only copy, and of two that seal as well.
const (
	entrance = "127.0.0.1:9001"
	plain    = "127.0.0.1:9002"
	sealed   = "127.0.0.1:9004"
)

// measure has flows begin, and looks at what becomes of them.
func (g *rig) measure(p pair, m moves) (r row, err error) {
	began := time.Now()
	if _, err := g.world.Output("a", g.self, "-pull", entrance+",1000"); err != nil {
		return r, err
	}
	opened := time.Since(began)
	if r.relayed, err = g.first(entrance, 20); err != nil { // short flows, for which no path is made
		return r, err
	}
	began = time.Now()
	if err := g.keep("a", "kept", g.self, "-pull", entrance+",-1"); err != nil { // a flow that lasts
		return r, err
	}
	if err := g.path(&r); err != nil {
		return r, err
	}
	if strings.HasPrefix(r.path, "direct") {
		r.after = opened + time.Since(began)
	}
	if r.listen, err = g.listening(); err != nil {
		return r, err
	}
	if p.plain() {
		if err := g.relays(p); err != nil {
			return r, err
		}
	}
	if err := g.move(&r, p, m); err != nil {
		return r, err
	}
	if p.far { // elsewhere it is next to nothing, and a router may drop what asks for it
		if r.trip, err = g.trip(); err != nil {
			return r, err
		}
	}
	return r, g.datagrams(p, &r)
}

// trip measures the round trip between the devices: that of each to the middle, where nobody listens.
func (g *rig) trip() (sum time.Duration, err error) {
	for i, side := range sides {
		took, err := g.median(side, "-refused", fmt.Sprintf("203.0.113.%d:1,100", 4*i+1))
		if err != nil {
			return 0, err
		}
		sum += took
	}
	return sum, nil
}

// median has this program print one, at a place.
func (g *rig) median(place string, words ...string) (time.Duration, error) {
	out, err := g.world.Output(place, append([]string{g.self}, words...)...)
	if err != nil {
		return 0, fmt.Errorf("%v: %s", err, out)
	}
	return time.ParseDuration(strings.TrimSpace(out))
}

// why matches the reason that there is no path.
var why = regexp.MustCompile(`(relayed|session): `)

// decided reports whether a path is what it is going to be.
func decided(path string) bool {
	return strings.HasPrefix(path, "direct") || why.MatchString(path) && !strings.HasSuffix(path, "in progress")
}

// path waits until flows have a path, or none was found.
func (g *rig) path(r *row) error {
	err := process.Until(g.ctx, "a path", timeout, func() error {
		out, err := g.command("a", "describe", "ep", "b")
		if err != nil {
			return err
		}
		_, path, _ := strings.Cut(out, "Path:")
		r.path, _, _ = strings.Cut(strings.TrimSpace(path), "\n")
		if !decided(r.path) {
			return errors.New(out)
		}
		return nil
	})
	r.path, _, _ = strings.Cut(r.path, ", since")
	return err
}

// relays has bytes go from a to b and on to the target by two relays that only copy, and by two that seal
// as well.
func (g *rig) relays(p pair) error {
	there, sealedThere := p.address()+":9003", p.address()+":9006"
	for _, f := range [][3]string{
		{"b", "plain", there + ",127.0.0.1:9000,plain"}, {"a", "plain", plain + "," + there + ",plain"},
		{"b", "sealed", sealedThere + ",127.0.0.1:9000,open"}, {"a", "sealed", sealed + "," + sealedThere + ",seal"},
	} {
		if err := g.keep(f[0], f[1]+"-"+f[0], g.self, "-forward", f[2]); err != nil {
			return err
		}
	}
	return process.Until(g.ctx, "relays", timeout, func() error {
		_, err := g.rate(plain, 1)
		if err == nil {
			_, err = g.rate(sealed, 1)
		}
		return err
	})
}

// move moves bytes and opens connections, by the tunnel and by the relays in turns where there are those. What
// the hub has of that is of the tunnel's turns alone: the relays are none of its business.
func (g *rig) move(r *row, p pair, m moves) error {
	before, err := g.hubBytes()
	if err != nil {
		return err
	}
	used := g.hub.CPU()
	ways := []string{entrance, plain, sealed}
	if !p.plain() {
		ways = ways[:1]
	}
	var rates [3][]float64
	for range m.rounds {
		for i, way := range ways {
			rate, err := g.rate(way, m.size)
			if err != nil {
				return err
			}
			rates[i] = append(rates[i], rate)
		}
	}
	var firsts [3]time.Duration
	for i, way := range ways {
		if firsts[i], err = g.first(way, p.connections()); err != nil {
			return err
		}
	}
	after, err := g.hubBytes()
	if err != nil {
		return err
	}
	r.hub, r.cpu = after-before, g.hub.CPU().Minus(used).All
	r.first, r.bare = firsts[0], firsts[1]
	r.rates(rates)
	return nil
}

// rates sets the median of what the tunnel has moved in a second, and of how that is to the relays' in
// the same round.
func (r *row) rates(of [3][]float64) {
	for _, relays := range of[1:] {
		for i := range relays {
			relays[i] = of[0][i] / relays[i]
		}
	}
	r.rate, r.plain, r.sealed = median(of[0]), median(of[1]), median(of[2])
}

// datagrams has a flow of datagrams begin, and looks at what becomes of it.
func (g *rig) datagrams(p pair, r *row) error {
	if err := g.keep("a", "talk", g.self, "-talk", "127.0.0.1:9005,-1"); err != nil { // a flow that lasts
		return err
	}
	err := process.Until(g.ctx, "a path for datagrams", timeout, func() error {
		out, err := g.command("a", "describe", "ep", "b")
		if err != nil {
			return err
		}
		_, path, is := strings.Cut(out, "Datagrams:")
		if !is {
			return errors.New(out)
		}
		r.datagrams, _, _ = strings.Cut(strings.TrimSpace(path), "\n")
		if !decided(r.datagrams) {
			return errors.New(out)
		}
		return nil
	})
	if err != nil {
		return err
	}
	r.datagrams, _, _ = strings.Cut(r.datagrams, ", since")
	before, err := g.hubBytes()
	if err != nil {
		return err
	}
	out, err := g.world.Output("a", g.self, "-talk", fmt.Sprintf("127.0.0.1:9005,%d", p.packets()))
	if err != nil {
		return fmt.Errorf("%v: %s", err, out)
	}
	after, err := g.hubBytes()
	if err != nil {
		return err
	}
	r.hubUDP = after - before
	r.came, err = strconv.ParseFloat(strings.TrimSpace(out), 64)
	return err
}

// rate moves bytes from the target to a, and returns megabytes in a second.
func (g *rig) rate(through string, size int64) (float64, error) {
	start := time.Now()
	if out, err := g.world.Output("a", g.self, "-pull", fmt.Sprintf("%s,%d", through, size)); err != nil {
		return 0, fmt.Errorf("%v: %s", err, out)
	}
	return float64(size) / 1e6 / time.Since(start).Seconds(), nil
}

// first opens connections, and returns how long it takes until their first byte is there.
func (g *rig) first(through string, connections int) (time.Duration, error) {
	return g.median("a", "-first", fmt.Sprintf("%s,%d", through, connections))
}

var bytesOf = regexp.MustCompile(`bytes (\d+)`)

// hubBytes is what came to the hub until now.
func (g *rig) hubBytes() (int64, error) {
	out, err := g.world.Output("hub", "nft", "list", "table", "inet", "count")
	if err != nil {
		return 0, fmt.Errorf("%v: %s", err, out)
	}
	m := bytesOf.FindStringSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("no counter: %s", out)
	}
	return strconv.ParseInt(m[1], 10, 64)
}

// listening counts what listens at the agents, but for the target and the tunnel's own entrance.
func (g *rig) listening() (n int, err error) {
	for _, side := range []string{"a", "b"} {
		out, err := g.world.Output(side, "ss", "-Hltnu")
		if err != nil {
			return 0, err
		}
		for line := range strings.Lines(out) {
			if !strings.Contains(line, "127.0.0.1:900") {
				n++
			}
		}
	}
	return n, nil
}

// run starts a program at a place.
func (g *rig) run(place, name string, words ...string) (*process.Process, error) {
	all := append(g.world.In(place), words...)
	return g.group.Start(name, all[0], all[1:]...)
}

// keep is run for what is not asked again.
func (g *rig) keep(place, name string, words ...string) error {
	_, err := g.run(place, name, words...)
	return err
}

func (g *rig) exists(name string) error {
	return process.Until(g.ctx, name, timeout, func() error {
		_, err := os.Stat(filepath.Join(g.dir, name))
		return err
	})
}

// command runs a command of ztm against the agent of a place.
func (g *rig) command(agent string, words ...string) (string, error) {
	c := exec.CommandContext(g.ctx, g.ztm, append([]string{"--data", agent + "-data"}, words...)...)
	c.Dir = g.dir
	out, err := c.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("ztm %s: %v: %s", strings.Join(words, " "), err, out)
	}
	return string(out), nil
}

func (g *rig) until(agent string, words ...string) error {
	return process.Until(g.ctx, words[0], timeout, func() error {
		_, err := g.command(agent, words...)
		return err
	})
}
