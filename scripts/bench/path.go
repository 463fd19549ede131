package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"ztm/scripts/process"
)

// path is one way to the load server.
type path struct {
	name    string
	address string // where the client connects
	procs   map[string]*process.Process
	lines   []*relay // between its processes

	// Of ztm:
	binary string
	dir    string // of its data
	hub    string // where agents reach their hub
}

// behind puts a line before an address, if there is one.
func (p *path) behind(address string, l line) (string, error) {
	if l.none() {
		return address, nil
	}
	r, err := newRelay(address, l)
	if err != nil {
		return "", err
	}
	p.lines = append(p.lines, r)
	return r.address(), nil
}

func closeLines(paths []*path) {
	for _, p := range paths {
		for _, l := range p.lines {
			l.close()
		}
	}
}

// hopsPath is three hops. Plain ones are the limit of the machine; of sealed ones the outer two
// seal and open. The outer two reach the middle one through lines.
func (r *run) hopsPath(ctx context.Context, name string, sealed bool, l line) (*path, error) {
	p := &path{name: name, address: r.server, procs: map[string]*process.Process{}}
	for _, role := range []string{"exit", "hub", "entrance"} {
		kind := "hop"
		if sealed && role != "hub" {
			kind = "sealed-" + role
		}
		listen := process.FreeAddress()
		pr, err := r.Start(kind+"-"+role, r.self, kind, listen, p.address)
		if err != nil {
			return nil, err
		}
		p.procs[role], p.address = pr, listen
		if err := process.Until(ctx, name+" "+role, 10*time.Second, listens(listen)); err != nil {
			return nil, err
		}
		if role != "entrance" {
			if p.address, err = p.behind(listen, l); err != nil {
				return nil, err
			}
		}
	}
	return p, nil
}

// ztmPaths are a path of ztm and, if there is one, of the binary to compare it with. Where narrow
// is set, no connections are possible beyond those of the control sessions.
func (r *run) ztmPaths(ctx context.Context, name string, l line, narrow bool) (all []*path, err error) {
	names := map[string]string{name: r.ztm}
	order := []string{name}
	if r.before != "" {
		other := before
		if name != ztm {
			other = name + ", " + before
		}
		names[other], order = r.before, append(order, other)
	}
	for _, name := range order {
		p, err := r.ztmPath(ctx, name, names[name], l)
		if err != nil {
			return nil, err
		}
		for _, l := range p.lines {
			if narrow {
				l.narrow()
			}
		}
		if err := r.works(ctx, p); err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	return all, nil
}

// ztmPath is a hub and two agents, which reach it through lines.
func (r *run) ztmPath(ctx context.Context, name, binary string, l line) (*path, error) {
	dir, err := os.MkdirTemp(r.Dir, "ztm.")
	if err != nil {
		return nil, err
	}
	in := func(f string) string { return filepath.Join(dir, f) }
	p := &path{name: name, address: process.FreeAddress(), procs: map[string]*process.Process{}, binary: binary, dir: dir, hub: process.FreeAddress()}
	p.procs["hub"], err = r.Start(filepath.Base(dir)+"-hub", binary, "run", "hub", "--data", in("hub"), "--listen", p.hub, "--names", p.hub, "--permit", in("root.json"))
	if err != nil {
		return nil, err
	}
	if err := process.Until(ctx, "the hub", 10*time.Second, func() error { _, err := os.Stat(in("root.json")); return err }); err != nil {
		return nil, err
	}
	for _, role := range []string{"entrance", "exit"} {
		address, err := p.behind(p.hub, l)
		if err != nil {
			return nil, err
		}
		if err := r.agent(ctx, p, role, address); err != nil {
			return nil, err
		}
	}
	return p, r.tunnel(ctx, p, "load", "exit", p.address)
}

// agent starts an agent that reaches the hub of the path at an address, and has it join.
func (r *run) agent(ctx context.Context, p *path, role, address string) error {
	permit, err := os.ReadFile(filepath.Join(p.dir, "root.json"))
	if err != nil {
		return err
	}
	own := filepath.Join(p.dir, role+".json")
	if err := os.WriteFile(own, []byte(strings.ReplaceAll(string(permit), p.hub, address)), 0o600); err != nil {
		return err
	}
	data := filepath.Join(p.dir, role)
	if p.procs[role], err = r.Start(filepath.Base(p.dir)+"-"+role, p.binary, "run", "agent", "--data", data, "--log-level", "warn"); err != nil {
		return err
	}
	err = process.Until(ctx, "agent "+role, 20*time.Second, func() error {
		return p.command(ctx, "join", "bench", "--as", role, "--permit", own, "--data", data)
	})
	if err != nil {
		return err
	}
	return process.Until(ctx, role+" is connected", 20*time.Second, func() error {
		out, err := exec.CommandContext(ctx, p.binary, "get", "mesh", "--data", data).Output()
		if err == nil && !bytes.Contains(out, []byte("Connected")) {
			err = fmt.Errorf("%s", out)
		}
		return err
	})
}

// tunnel opens a tunnel from an address at the entrance, through an exit, to the load server.
func (r *run) tunnel(ctx context.Context, p *path, name, exit, listen string) error {
	err := p.command(ctx, "tunnel", "open", "outbound", "tcp/"+name, "--targets", r.server, "--data", filepath.Join(p.dir, exit))
	if err != nil {
		return err
	}
	return p.command(ctx, "tunnel", "open", "inbound", "tcp/"+name, "--listen", listen, "--exits", exit, "--data", filepath.Join(p.dir, "entrance"))
}

func (p *path) command(ctx context.Context, args ...string) error {
	out, err := exec.CommandContext(ctx, p.binary, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ztm %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

// frpPath is frp with stcp and a visitor, TLS on, where its programs are installed.
func (r *run) frpPath(ctx context.Context) (*path, error) {
	frps, err1 := exec.LookPath("frps")
	frpc, err2 := exec.LookPath("frpc")
	if err1 != nil || err2 != nil {
		return nil, nil
	}
	bind := process.FreeAddress()
	entrance := process.FreeAddress()
	_, bindPort, _ := strings.Cut(bind, ":")
	host, port, _ := strings.Cut(r.server, ":")
	_, entrancePort, _ := strings.Cut(entrance, ":")
	common := fmt.Sprintf("serverAddr = \"127.0.0.1\"\nserverPort = %s\ntransport.tls.enable = true\nauth.token = \"bench\"\n", bindPort)
	files := map[string]string{
		"frps.toml":          fmt.Sprintf("bindAddr = \"127.0.0.1\"\nbindPort = %s\nauth.token = \"bench\"\ntransport.tls.force = true\n", bindPort),
		"frpc-exit.toml":     common + fmt.Sprintf("[[proxies]]\nname = \"load\"\ntype = \"stcp\"\nsecretKey = \"s\"\nlocalIP = %q\nlocalPort = %s\n", host, port),
		"frpc-entrance.toml": common + fmt.Sprintf("[[visitors]]\nname = \"v\"\ntype = \"stcp\"\nserverName = \"load\"\nsecretKey = \"s\"\nbindAddr = \"127.0.0.1\"\nbindPort = %s\n", entrancePort),
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(r.Dir, name), []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	p := &path{name: "frp stcp+tls", address: entrance, procs: map[string]*process.Process{}}
	for _, role := range []struct{ name, program, config string }{
		{"hub", frps, "frps.toml"}, {"exit", frpc, "frpc-exit.toml"}, {"entrance", frpc, "frpc-entrance.toml"},
	} {
		pr, err := r.Start("frp-"+role.name, role.program, "-c", role.config)
		if err != nil {
			return nil, err
		}
		p.procs[role.name] = pr
		if role.name == "hub" {
			if err := process.Until(ctx, "frps", 10*time.Second, listens(bind)); err != nil {
				return nil, err
			}
		}
	}
	return p, r.works(ctx, p)
}

// chiselPath is chisel: a server, a client that offers the service on the server's loopback, and a
// client that reaches it there.
func (r *run) chiselPath(ctx context.Context) (*path, error) {
	chisel, err := exec.LookPath("chisel")
	if err != nil {
		return nil, nil
	}
	bind := process.FreeAddress()
	middle := process.FreeAddress()
	entrance := process.FreeAddress()
	_, bindPort, _ := strings.Cut(bind, ":")
	p := &path{name: "chisel", address: entrance, procs: map[string]*process.Process{}}
	for _, role := range []struct {
		name string
		args []string
	}{
		{"hub", []string{"server", "--host", "127.0.0.1", "--port", bindPort, "--reverse"}},
		{"exit", []string{"client", bind, "R:" + middle + ":" + r.server}},
		{"entrance", []string{"client", bind, entrance + ":" + middle}},
	} {
		pr, err := r.Start("chisel-"+role.name, chisel, role.args...)
		if err != nil {
			return nil, err
		}
		p.procs[role.name] = pr
		if role.name == "hub" {
			if err := process.Until(ctx, "chisel", 10*time.Second, listens(bind)); err != nil {
				return nil, err
			}
		}
	}
	return p, r.works(ctx, p)
}
