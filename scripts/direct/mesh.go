//go:build linux

package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
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
func try(ctx context.Context, ztm, dir, prefix string, p pair, size int64) (r row, err error) {
	w := newWorld(prefix, p.a, p.b, p.lie)
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
	return g.measure(p, size)
}

// start makes the mesh, and a tunnel from a to a target at b.
func (g *rig) start() error {
	steps := []func() error{
		func() (err error) {
			g.hub, err = g.run("public", "hub", g.ztm, "run", "hub", "--data", "hub-data", "--listen", hubIP+":8888", "--names", hubIP+":8888", "--permit", "root.json")
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

// measure has flows begin, and looks at what becomes of them.
func (g *rig) measure(p pair, size int64) (r row, err error) {
	began := time.Now()
	if _, err := g.world.Output("a", g.self, "-pull", "127.0.0.1:9001,1000"); err != nil {
		return r, err
	}
	if err := g.keep("a", "kept", g.self, "-pull", "127.0.0.1:9001,-1"); err != nil { // a flow that lasts
		return r, err
	}
	why := regexp.MustCompile(`relayed: `)
	err = process.Until(g.ctx, "a path", timeout, func() error {
		out, err := g.command("a", "describe", "ep", "b")
		if err != nil {
			return err
		}
		_, path, _ := strings.Cut(out, "Path:")
		r.path, _, _ = strings.Cut(strings.TrimSpace(path), "\n")
		if !strings.HasPrefix(r.path, "direct") && !why.MatchString(r.path) {
			return errors.New(out)
		}
		return nil
	})
	if err != nil {
		return r, err
	}
	if r.path, _, _ = strings.Cut(r.path, ", since"); strings.HasPrefix(r.path, "direct") {
		r.after = time.Since(began)
	}
	before, err := g.hubBytes()
	if err != nil {
		return r, err
	}
	used := g.hub.CPU()
	if r.rate, err = g.rate("127.0.0.1:9001", size); err != nil {
		return r, err
	}
	if r.first, err = g.first("127.0.0.1:9001"); err != nil {
		return r, err
	}
	after, err := g.hubBytes()
	if err != nil {
		return r, err
	}
	r.hub, r.cpu = after-before, g.hub.CPU().Minus(used).All
	if r.listen, err = g.listening(); err != nil {
		return r, err
	}
	if err := g.datagrams(&r); err != nil || p.lie != oneNetwork {
		return r, err
	}
	for _, f := range [][2]string{{"b", "10.1.0.3:9003,127.0.0.1:9000"}, {"a", "127.0.0.1:9002,10.1.0.3:9003"}} {
		if err := g.keep(f[0], "plain-"+f[0], g.self, "-forward", f[1]); err != nil {
			return r, err
		}
	}
	err = process.Until(g.ctx, "plain relays", timeout, func() error {
		_, err := g.rate("127.0.0.1:9002", 1)
		return err
	})
	if err == nil {
		r.plain, err = g.rate("127.0.0.1:9002", size)
	}
	if err == nil {
		r.bare, err = g.first("127.0.0.1:9002")
	}
	return r, err
}

// What is sent as datagrams, and in how many of them.
const (
	packets = 2000
	sentUDP = packets * 1000
)

// datagrams has a flow of datagrams begin, and looks at what becomes of it.
func (g *rig) datagrams(r *row) error {
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
	out, err := g.world.Output("a", g.self, "-talk", fmt.Sprintf("127.0.0.1:9005,%d", packets))
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
func (g *rig) first(through string) (time.Duration, error) {
	const connections = 200
	out, err := g.world.Output("a", g.self, "-first", fmt.Sprintf("%s,%d", through, connections))
	if err != nil {
		return 0, fmt.Errorf("%v: %s", err, out)
	}
	return time.ParseDuration(strings.TrimSpace(out))
}

var bytesOf = regexp.MustCompile(`bytes (\d+)`)

// hubBytes is what came to the hub until now.
func (g *rig) hubBytes() (int64, error) {
	out, err := g.world.Output("public", "nft", "list", "table", "inet", "count")
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

// target sends as many bytes as it is asked for, and keeps a connection open that asks for less than
// none.
func target(address string) error {
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	packets, err := net.ListenPacket("udp", address)
	if err != nil {
		return err
	}
	go repeat(packets) // ends with the program
	for {
		c, err := ln.Accept()
		if err != nil {
			return err
		}
		go func() { // ends with its connection
			defer c.Close()
			var n int64
			if binary.Read(c, binary.BigEndian, &n) != nil {
				return
			}
			if n < 0 {
				io.Copy(io.Discard, c)
			}
			io.CopyN(c, zeros{}, n)
		}()
	}
}

// repeat sends datagrams back.
func repeat(c net.PacketConn) {
	b := make([]byte, 1<<16)
	for {
		n, from, err := c.ReadFrom(b)
		if err != nil {
			return
		}
		c.WriteTo(b[:n], from)
	}
}

// speak sends datagrams of 1,000 bytes, one for each that comes back or is missing, and prints which
// part of them came back. With less than none it goes on for good.
func speak(address string, count int) error {
	c, err := net.Dial("udp", address)
	if err != nil {
		return err
	}
	defer c.Close()
	came, b := 0, make([]byte, 1000)
	for i := 0; i != count; i++ {
		if _, err := c.Write(b); err != nil {
			return err
		}
		c.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		if _, err := c.Read(b); err == nil {
			came++
		}
		if count < 0 {
			<-time.After(100 * time.Millisecond)
		}
	}
	fmt.Println(float64(came) / float64(count))
	return nil
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// client asks a target for bytes, and reads them.
func client(address string, size int64) error {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := binary.Write(c, binary.BigEndian, size); err != nil {
		return err
	}
	n, err := io.Copy(io.Discard, c)
	if err == nil && n != max(size, 0) {
		err = fmt.Errorf("%d of %d bytes came", n, size)
	}
	return err
}

// firstBytes opens connections one after the other, asks each for a byte, and prints the median of how
// long that takes from the dial on.
func firstBytes(address string, count int) error {
	var took []time.Duration
	for range count {
		began := time.Now()
		c, err := net.Dial("tcp", address)
		if err != nil {
			return err
		}
		if err = binary.Write(c, binary.BigEndian, int64(1)); err == nil {
			_, err = io.ReadFull(c, make([]byte, 1))
		}
		took = append(took, time.Since(began))
		c.Close()
		if err != nil {
			return err
		}
	}
	slices.Sort(took)
	fmt.Println(took[len(took)/2])
	return nil
}

// relay copies between connections to an address and connections to a target, and does nothing else.
func relay(words string) error {
	address, to, _ := strings.Cut(words, ",")
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	for {
		c, err := ln.Accept()
		if err != nil {
			return err
		}
		d, err := net.Dial("tcp", to)
		if err != nil {
			c.Close()
			continue
		}
		copyTo := func(dst, src net.Conn) { // ends with its connections
			io.Copy(dst, src)
			dst.(*net.TCPConn).CloseWrite()
		}
		go copyTo(d, c)
		go copyTo(c, d)
	}
}
