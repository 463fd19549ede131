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
	hub     string // where agents of ztm reach their hub
	procs   map[string]*process.Process
}

// hopsPath is three hops. Plain ones are the limit of the machine; of sealed ones the outer two seal and open. Where delay is not zero, the
// outer two reach the middle one through lines as [run.ztmPath] has them.
func (r *run) hopsPath(ctx context.Context, name string, sealed bool, delay time.Duration) (*path, []*delayed, error) {
	p := &path{name: name, address: r.server, procs: map[string]*process.Process{}}
	var lines []*delayed
	for _, role := range []string{"exit", "hub", "entrance"} {
		kind := "hop"
		if sealed && role != "hub" {
			kind = "sealed-" + role
		}
		listen := process.FreeAddress()
		pr, err := r.Start(kind+"-"+role, r.self, kind, listen, p.address)
		if err != nil {
			return nil, nil, err
		}
		p.procs[role], p.address = pr, listen
		if err := process.Until(ctx, name+" "+role, 10*time.Second, listens(listen)); err != nil {
			return nil, nil, err
		}
		if delay == 0 || role == "entrance" {
			continue
		}
		line, err := newDelayed(listen, delay)
		if err != nil {
			return nil, nil, err
		}
		lines, p.address = append(lines, line), line.address()
	}
	return p, lines, nil
}

// ztmPath is a hub and two agents. Where delay is not zero, each agent reaches the hub through a line that is so long each way; lines are
// returned for counting.
func (r *run) ztmPath(ctx context.Context, name string, delay time.Duration, slow bool) (*path, []*delayed, error) {
	dir := filepath.Join(r.Dir, name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, nil, err
	}
	hub := process.FreeAddress()
	entrance := process.FreeAddress()
	in := func(f string) string { return filepath.Join(dir, f) }
	p := &path{name: name, address: entrance, hub: hub, procs: map[string]*process.Process{}}
	hubProcess, err := r.Start(name+"-hub", r.ztm, "run", "hub", "--data", in("hub"), "--listen", hub, "--names", hub, "--permit", in("root.json"))
	if err != nil {
		return nil, nil, err
	}
	p.procs["hub"] = hubProcess
	if err := process.Until(ctx, "the hub", 10*time.Second, func() error { _, err := os.Stat(in("root.json")); return err }); err != nil {
		return nil, nil, err
	}
	var lines []*delayed
	for _, role := range []string{"entrance", "exit"} {
		address := hub
		if slow {
			line, err := newDelayed(hub, delay)
			if err != nil {
				return nil, nil, err
			}
			lines, address = append(lines, line), line.address()
		}
		if err := r.agent(ctx, p, role, address); err != nil {
			return nil, nil, err
		}
	}
	return p, lines, r.tunnel(ctx, p, "load", "exit", p.address)
}

// agent starts an agent that reaches the hub of the path at an address, and has it join.
func (r *run) agent(ctx context.Context, p *path, role, address string) error {
	dir := filepath.Join(r.Dir, p.name)
	permit, err := os.ReadFile(filepath.Join(dir, "root.json"))
	if err != nil {
		return err
	}
	own := filepath.Join(dir, role+".json")
	if err := os.WriteFile(own, []byte(strings.ReplaceAll(string(permit), p.hub, address)), 0o600); err != nil {
		return err
	}
	data := filepath.Join(dir, role)
	if p.procs[role], err = r.Start(p.name+"-"+role, r.ztm, "run", "agent", "--data", data, "--log-level", "warn"); err != nil {
		return err
	}
	err = process.Until(ctx, "agent "+role, 20*time.Second, func() error {
		return r.command(ctx, "join", "bench", "--as", role, "--permit", own, "--data", data)
	})
	if err != nil {
		return err
	}
	return process.Until(ctx, role+" is connected", 20*time.Second, func() error {
		out, err := exec.CommandContext(ctx, r.ztm, "get", "mesh", "--data", data).Output()
		if err == nil && !bytes.Contains(out, []byte("Connected")) {
			err = fmt.Errorf("%s", out)
		}
		return err
	})
}

// tunnel opens a tunnel from an address at the entrance, through an exit, to the load server.
func (r *run) tunnel(ctx context.Context, p *path, name, exit, listen string) error {
	dir := filepath.Join(r.Dir, p.name)
	err := r.command(ctx, "tunnel", "open", "outbound", "tcp/"+name, "--targets", r.server, "--data", filepath.Join(dir, exit))
	if err != nil {
		return err
	}
	return r.command(ctx, "tunnel", "open", "inbound", "tcp/"+name, "--listen", listen, "--exits", exit, "--data", filepath.Join(dir, "entrance"))
}

func (r *run) command(ctx context.Context, args ...string) error {
	out, err := exec.CommandContext(ctx, r.ztm, args...).CombinedOutput()
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

// chiselPath is chisel: a server, a client that offers the service on the server's loopback, and a client that reaches it there.
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
