package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"ztm/scripts/bench/load"
	"ztm/scripts/process"
	"ztm/tunnel/identity"
)

// mesh is what is attacked: the processes of a hub and two agents, and what an attacker may know of them.
type mesh struct {
	process.Group
	ztm       string
	hub       string // address
	metrics   map[string]string
	tunnel    string // where the entrance listens for the load server
	dead      string // where it listens for an exit that is off
	datagrams string // where it listens for datagrams that the load server's machine echoes
	procs     map[string]*process.Process
	ca        *identity.CA // of the mesh: attackers are members because somebody invited them
	caPEM     []byte
	exit      identity.ID
	honest    *member
	servers   []interface{ Close() error }
	members   []*member
}

// The users of the mesh. Mallory has every attacker; nobody allows anything to mallory.
const (
	exitUser   = "bob"
	honestUser = "carol"
	attacker   = "mallory"
)

// newMesh starts everything and returns when the tunnel works.
func newMesh(ctx context.Context, dir, binary string) (_ *mesh, err error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	m := &mesh{Group: process.Group{Dir: dir}, ztm: binary, procs: map[string]*process.Process{}, metrics: map[string]string{}}
	defer func() {
		if err != nil {
			m.end()
		}
	}()
	if err := m.startHub(ctx); err != nil {
		return nil, err
	}
	for _, a := range []struct{ name, user string }{{"exit", exitUser}, {"entrance", "root"}, {"off", exitUser}} {
		if err := m.startAgent(ctx, a.name, a.user); err != nil {
			return nil, err
		}
	}
	if err := m.openTunnels(ctx); err != nil {
		return nil, err
	}
	m.honest, err = m.newMember(honestUser)
	return m, err
}

func (m *mesh) startHub(ctx context.Context) (err error) {
	m.hub, m.metrics["hub"] = process.FreeAddress(), process.FreeAddress()
	permit := filepath.Join(m.Dir, "root.json")
	m.procs["hub"], err = m.Start("hub", m.ztm, "run", "hub", "--data", filepath.Join(m.Dir, "hub"), "--listen", m.hub, "--names", m.hub,
		"--metrics", m.metrics["hub"], "--permit", permit)
	if err != nil {
		return err
	}
	err = process.Until(ctx, "the hub", 20*time.Second, func() error {
		b, err := os.ReadFile(permit)
		if err != nil {
			return err
		}
		return m.own(b)
	})
	return err
}

// own takes the CA from the root permit.
func (m *mesh) own(permit []byte) error {
	p, err := identity.ParsePermit(permit)
	if err != nil {
		return err
	}
	m.caPEM = []byte(p.CA)
	m.ca, err = identity.ParseCA(m.caPEM, []byte(p.CAKey))
	return err
}

// startAgent starts an agent and has it join as a user. The first of a user that is not root gets a permit with its certificate in it.
func (m *mesh) startAgent(ctx context.Context, name, user string) (err error) {
	data := filepath.Join(m.Dir, name)
	m.metrics[name] = process.FreeAddress()
	m.procs[name], err = m.Start(name, m.ztm, "run", "agent", "--data", data, "--metrics", m.metrics[name])
	if err != nil {
		return err
	}
	permit := filepath.Join(m.Dir, "root.json")
	if user != "root" {
		permit = filepath.Join(m.Dir, name+".json")
		if err := m.permitFor(ctx, data, user, permit); err != nil {
			return err
		}
	}
	return process.Until(ctx, name+" joins", 20*time.Second, func() error {
		return m.command(ctx, "join", "demo", "--as", name, "--permit", permit, "--data", data)
	})
}

// permitFor writes a permit for the key of an agent, as `ztm invite --identity` does.
func (m *mesh) permitFor(ctx context.Context, data, user, file string) error {
	key, err := process.Identity(ctx, data, 20*time.Second, func() ([]byte, error) {
		return exec.CommandContext(ctx, m.ztm, "identity", "--data", data).Output()
	})
	if err != nil {
		return err
	}
	b, err := m.permit(user, m.hub, key)
	if err != nil {
		return err
	}
	if user == exitUser && m.exit == "" {
		m.exit = identity.IDOf(key)
	}
	return os.WriteFile(file, b, 0o600)
}

// openTunnels opens tcp/load to a load server, udp/echo to one for datagrams, and tcp/dead to an endpoint that is then stopped.
func (m *mesh) openTunnels(ctx context.Context) error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	m.servers = append(m.servers, ln, udp)
	go load.Serve(ln)     // ends with the listener, which end closes
	go echoDatagrams(udp) // likewise
	m.tunnel, m.dead, m.datagrams = process.FreeAddress(), process.FreeAddress(), process.FreeAddress()
	at := func(name string) string { return filepath.Join(m.Dir, name) }
	for _, args := range [][]string{
		{"tunnel", "open", "outbound", "tcp/load", "--targets", ln.Addr().String(), "--users", "root", "--data", at("exit")},
		{"tunnel", "open", "outbound", "udp/echo", "--targets", udp.LocalAddr().String(), "--users", "root", "--data", at("exit")},
		{"tunnel", "open", "outbound", "tcp/dead", "--targets", ln.Addr().String(), "--users", "root", "--data", at("off")},
	} {
		if err := m.command(ctx, args...); err != nil {
			return err
		}
	}
	for _, in := range []struct{ name, listen string }{{"tcp/load", m.tunnel}, {"udp/echo", m.datagrams}, {"tcp/dead", m.dead}} {
		err := process.Until(ctx, "tunnel "+in.name, 20*time.Second, func() error {
			return m.command(ctx, "tunnel", "open", "inbound", in.name, "--listen", in.listen, "--data", at("entrance"))
		})
		if err != nil {
			return err
		}
	}
	for _, address := range []string{m.tunnel, m.dead} {
		err := process.Until(ctx, "the tunnel at "+address, 20*time.Second, func() error {
			_, err := load.FirstByte(ctx, address)
			return err
		})
		if err != nil {
			return err
		}
	}
	m.procs["off"].End(10 * time.Second)
	return nil
}

// echoDatagrams answers until the socket is closed.
func echoDatagrams(c net.PacketConn) {
	b := make([]byte, 64<<10)
	for {
		n, from, err := c.ReadFrom(b)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			c.WriteTo(b[:n], from)
		}
	}
}

func (m *mesh) command(ctx context.Context, args ...string) error {
	_, err := m.output(ctx, args...)
	return err
}

// output runs the command line and returns what it printed. It takes half a minute at most.
func (m *mesh) output(ctx context.Context, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, m.ztm, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("ztm %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return out, err
}

// processorTime is what hub and exit have used so far.
func (m *mesh) processorTime() used {
	return used{m.procs["hub"].CPU().All, m.procs["exit"].CPU().All}
}

// used is processor time.
type used struct {
	Hub  time.Duration `json:"hub"`
	Exit time.Duration `json:"exit"`
}

func (u used) minus(v used) used { return used{u.Hub - v.Hub, u.Exit - v.Exit} }

// end stops everything.
func (m *mesh) end() {
	for _, a := range m.members {
		a.leave()
	}
	m.End(10 * time.Second)
	for _, s := range m.servers {
		s.Close()
	}
}

// sizes are bytes: resident memory of processes, and what they have logged.
type sizes struct {
	Hub      int64 `json:"hub"`
	Exit     int64 `json:"exit"`
	Entrance int64 `json:"entrance"`
	Log      int64 `json:"log"`
}

func (m *mesh) sizes() (s sizes) {
	for name, to := range map[string]*int64{"hub": &s.Hub, "exit": &s.Exit, "entrance": &s.Entrance} {
		*to, _ = m.procs[name].Memory()
		if info, err := os.Stat(filepath.Join(m.Dir, name+".log")); err == nil {
			s.Log += info.Size()
		}
	}
	return s
}

func (s sizes) most(t sizes) sizes {
	return sizes{max(s.Hub, t.Hub), max(s.Exit, t.Exit), max(s.Entrance, t.Entrance), max(s.Log, t.Log)}
}

func (s sizes) minus(t sizes) sizes {
	return sizes{s.Hub - t.Hub, s.Exit - t.Exit, s.Entrance - t.Entrance, s.Log - t.Log}
}
