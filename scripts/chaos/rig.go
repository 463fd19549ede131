//go:build linux

package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"ztm/scripts/process"
	"ztm/tunnel/identity"
)

// timeout is how long anything may take while nothing is broken.
const timeout = 30 * time.Second

// node is a process at a place of its own.
type node struct {
	name string
	args []string // with which it starts, each time
	proc *process.Process
}

// rig is a mesh that runs.
type rig struct {
	settings *settings
	world    *world
	log      *journal

	mu     sync.Mutex // of what follows
	group  process.Group
	hubs   []*node
	etcds  []*node
	agents []*agent

	ca      *identity.CA // of the mesh: whoever is simulated is invited by it
	caPEM   []byte
	target  *target
	pairs   []pair
	evicted []string // users, by commands that have succeeded
}

// agent is an agent with the tunnels that are open at it.
type agent struct {
	node
	id   identity.ID
	user string
}

// pair is a tunnel from an agent to another.
type pair struct {
	from, to int    // of agents
	listen   string // where the one listens
}

// The agents are those of users, two to each, but for the first two, which hold the CA key, and the last, whose user is evicted in the end.
const (
	rootUser = "root"
	outcast  = "mallory"
)

func (r *rig) userOf(i int) string {
	switch {
	case i < 2:
		return rootUser
	case i == r.settings.agents-1:
		return outcast
	}
	return fmt.Sprint("user-", i/2)
}

func (r *rig) slack(d time.Duration) time.Duration {
	return time.Duration(float64(d) * r.settings.slack)
}

func newRig(ctx context.Context, s *settings) (_ *rig, err error) {
	r := &rig{settings: s, group: process.Group{Dir: s.dir}}
	if r.log, err = newJournal(filepath.Join(s.dir, "operations.json")); err != nil {
		return nil, err
	}
	if r.world, err = newWorld(); err != nil {
		return nil, err
	}
	if r.target, err = newTarget(r.log); err != nil {
		return nil, err
	}
	for _, step := range []func(context.Context) error{r.startEtcds, r.startFirst, r.startAgents, r.startOthers, r.openTunnels, r.keepYesterday} {
		if err := step(ctx); err != nil {
			r.end()
			return nil, err
		}
	}
	return r, nil
}

// end ends everything.
func (r *rig) end() {
	r.group.End(10 * time.Second)
	r.target.ln.Close()
	r.log.file.Close()
}

// start starts the process of a node at its place.
func (r *rig) start(n *node) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	words := in(n.name, n.args...)
	p, err := r.group.Start(n.name, words[0], words[1:]...)
	if err == nil {
		n.proc = p
		r.world.set(n.name, false)
	}
	return err
}

func (r *rig) address(n *node, port int) string {
	return net.JoinHostPort(r.world.places[n.name], fmt.Sprint(port))
}

const hubPort, metricsPort = 8888, 9100

// startFirst gives each hub its place, and starts the first, which makes the mesh.
func (r *rig) startFirst(ctx context.Context) error {
	permit := filepath.Join(r.settings.dir, "root.json")
	for i := range r.settings.hubs {
		n := &node{name: fmt.Sprint("hub", i+1)}
		if err := r.world.add(n.name, fmt.Sprintf("10.77.0.%d", 11+i)); err != nil {
			return err
		}
		if err := small(r.data(n.name), "64m"); err != nil {
			return err
		}
		r.hubs = append(r.hubs, n)
	}
	first := r.hubs[0]
	if err := r.startHub(ctx, first, permit); err != nil {
		return err
	}
	if err := process.Until(ctx, "the mesh", timeout, func() error { return first.proc.Says("hub is running") }); err != nil {
		return err
	}
	return r.own(permit)
}

// startOthers makes the other hubs, each with a permit of its own, once there is an endpoint that
// holds the CA key.
func (r *rig) startOthers(ctx context.Context) error {
	for _, n := range r.hubs[1:] {
		public, permit := r.data(n.name+".pub"), r.data(n.name+".json")
		if out, err := exec.CommandContext(ctx, r.settings.ztm, "run", "hub", "--data", r.data(n.name), "--identity", public).CombinedOutput(); err != nil {
			return fmt.Errorf("%w\n%s", err, out)
		}
		err := r.command(ctx, r.agents[0].name, "invite", "--hub", "--identity", public, "--name", r.address(n, hubPort), "--permit", permit)
		if err != nil {
			return err
		}
		if err := r.startHub(ctx, n, permit); err != nil {
			return err
		}
	}
	m, err := r.newMember("reader")
	if err != nil {
		return err
	}
	return process.Until(ctx, "all hubs know all agents", timeout, func() error { return r.agreeNow(ctx, m) })
}

func (r *rig) startHub(ctx context.Context, n *node, permit string) error {
	n.args = []string{r.settings.ztm, "run", "hub", "--data", r.data(n.name), "--listen", r.address(n, hubPort), "--names", r.address(n, hubPort),
		"--permit", permit, "--metrics", fmt.Sprint("127.0.0.1:", metricsPort)}
	if n != r.hubs[0] {
		n.args = append(n.args, "--peers", r.address(r.hubs[0], hubPort))
	}
	if len(r.etcds) > 0 {
		n.args = append(n.args, "--store", strings.Join(r.endpoints(), ","), "--store-ca", r.data(caFile), "--store-cert", r.data(certFile), "--store-key", r.data(keyFile))
	}
	if err := r.start(n); err != nil {
		return err
	}
	return process.Until(ctx, n.name, timeout, func() error { return answers(r.address(n, hubPort)) })
}

// small makes a directory on a file system of its own, which can be filled.
func small(dir, size string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return sh("mount", "-t", "tmpfs", "-o", "size="+size+",mode=0700", "none", dir)
}

func answers(address string) error {
	c, err := net.DialTimeout("tcp", address, time.Second)
	if err == nil {
		c.Close()
	}
	return err
}

// own takes the CA from the root permit.
func (r *rig) own(permit string) error {
	b, err := os.ReadFile(permit)
	if err != nil {
		return err
	}
	p, err := identity.ParsePermit(b)
	if err != nil {
		return err
	}
	r.caPEM = []byte(p.CA)
	r.ca, err = identity.ParseCA(r.caPEM, []byte(p.CAKey))
	return err
}

// startAgents starts the agents and has them join, each with a permit for its key.
func (r *rig) startAgents(ctx context.Context) error {
	for i := range r.settings.agents {
		a := &agent{node: node{name: fmt.Sprint("agent", i)}, user: r.userOf(i)}
		if err := r.world.add(a.name, fmt.Sprintf("10.77.0.%d", 101+i)); err != nil {
			return err
		}
		a.args = []string{r.settings.ztm, "run", "agent", "--data", r.data(a.name)}
		r.agents = append(r.agents, a)
		if err := r.start(&a.node); err != nil {
			return err
		}
	}
	for _, a := range r.agents {
		if err := r.join(ctx, a); err != nil {
			return err
		}
	}
	return nil
}

func (r *rig) data(name string) string { return filepath.Join(r.settings.dir, name) }

func (r *rig) hubAddresses() (all []string) {
	for _, h := range r.hubs {
		all = append(all, r.address(h, hubPort))
	}
	return all
}

func (r *rig) join(ctx context.Context, a *agent) error {
	permit := filepath.Join(r.settings.dir, "root.json")
	key, err := process.Identity(ctx, a.name, timeout, func() ([]byte, error) { return r.output(ctx, a.name, "identity") })
	if err != nil {
		return err
	}
	a.id = identity.IDOf(key)
	if a.user != rootUser {
		permit = r.data(a.name + ".json")
		b, err := r.permit(a.user, key)
		if err != nil {
			return err
		}
		if err := os.WriteFile(permit, b, 0o600); err != nil {
			return err
		}
	}
	return process.Until(ctx, a.name+" joins", timeout, func() error {
		return r.command(ctx, a.name, "join", "chaos", "--as", a.name, "--permit", permit)
	})
}

// tunnelsOf is to how many others each agent opens a tunnel.
const tunnelsOf = 3

// openTunnels has each agent offer this program, and listen for some others.
func (r *rig) openTunnels(ctx context.Context) error {
	users := []string{"--users", rootUser, outcast}
	for i := 2; i < len(r.agents)-1; i += 2 {
		users = append(users, r.userOf(i))
	}
	for _, a := range r.agents {
		args := append([]string{"tunnel", "open", "outbound", "tcp/" + a.name, "--targets", r.target.ln.Addr().String()}, users...)
		if err := process.Until(ctx, a.name+" offers", timeout, func() error { return r.command(ctx, a.name, args...) }); err != nil {
			return err
		}
	}
	for i, a := range r.agents {
		for k := 1; k <= min(tunnelsOf, len(r.agents)-1); k++ {
			to := (i + k*(1+i%2)) % len(r.agents)
			if to == i {
				continue
			}
			p := pair{from: i, to: to, listen: fmt.Sprintf("%s:%d", r.world.places[a.name], 20000+k)}
			err := process.Until(ctx, a.name+" listens", timeout, func() error {
				return r.command(ctx, a.name, "tunnel", "open", "inbound", "tcp/"+r.agents[to].name, "--listen", p.listen)
			})
			if err != nil {
				return err
			}
			r.pairs = append(r.pairs, p)
		}
	}
	for _, p := range r.pairs {
		if err := process.Until(ctx, "the tunnel at "+p.listen, timeout, func() error { return r.probe(ctx, p, 0) }); err != nil {
			return err
		}
	}
	return nil
}

func (r *rig) command(ctx context.Context, at string, args ...string) error {
	_, err := r.output(ctx, at, args...)
	return err
}

// output runs the command line for an agent and returns what it printed.
func (r *rig) output(ctx context.Context, at string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, r.settings.ztm, args...)
	var stderr bytes.Buffer
	cmd.Env, cmd.Stderr = append(os.Environ(), "ZTM_DATA="+r.data(at)), &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("ztm %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return out, err
}

// kill ends the process of a node, freeze stops it, and thaw lets it go on.
func (r *rig) kill(n *node) {
	r.world.set(n.name, true)
	n.proc.Kill()
}

func (r *rig) freeze(n *node) {
	r.world.set(n.name, true)
	n.proc.Signal(syscall.SIGSTOP)
}

func (r *rig) thaw(n *node) {
	n.proc.Signal(syscall.SIGCONT)
	r.world.set(n.name, false)
}
