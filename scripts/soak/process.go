package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
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

// timeout is how long anything may take that is to happen by itself.
const timeout = 30 * time.Second

// mesh is a hub, two agents with a tunnel between them, and the targets of the tunnel.
type mesh struct {
	process.Group
	ztm             string
	ours            []*process.Process // hub and agents
	entrance, exit  string             // their data directories
	tcp, udp        string             // where the entrance listens
	targets         [2]*process.Process
	targetAddresses [2]string
	metrics         map[string]string // where processes serve their counters
}

// prepare starts everything and opens the tunnels.
func (m *mesh) prepare(ctx context.Context) error {
	address, permit := process.FreeAddress(), filepath.Join(m.Dir, "root.json")
	hub, err := m.start("hub", "run", "hub", "--data", filepath.Join(m.Dir, "hub"), "--listen", address, "--names", address, "--permit", permit, "--metrics", m.metricsOf("hub"))
	if err != nil {
		return err
	}
	if err := process.Until(ctx, "the hub runs", timeout, func() error { return hub.Says("hub is running") }); err != nil {
		return err
	}
	m.entrance, m.exit = filepath.Join(m.Dir, "entrance"), filepath.Join(m.Dir, "exit")
	for _, data := range []string{m.entrance, m.exit} {
		name := filepath.Base(data)
		start := m.start
		if data == m.exit {
			start = m.startSmall
		}
		if _, err := start(name, "run", "agent", "--data", data, "--metrics", m.metricsOf(name)); err != nil {
			return err
		}
		if err := process.Until(ctx, name+" joins", timeout, func() error { return m.call(ctx, data, "join", "soak", "--as", name, "--permit", permit) }); err != nil {
			return err
		}
	}
	for i := range m.targets {
		m.targetAddresses[i] = process.FreeAddress()
		if err := m.startTarget(ctx, i); err != nil {
			return err
		}
	}
	m.tcp, m.udp = process.FreeAddress(), process.FreeAddress()
	for _, args := range [][]string{
		{m.exit, "tunnel", "open", "outbound", "tcp/soak", "--targets", m.targetAddresses[0], m.targetAddresses[1]},
		{m.exit, "tunnel", "open", "outbound", "udp/soak", "--targets", m.targetAddresses[0], m.targetAddresses[1], "--idle-timeout", "3s"},
		{m.entrance, "tunnel", "open", "inbound", "tcp/soak", "--listen", m.tcp},
		{m.entrance, "tunnel", "open", "inbound", "udp/soak", "--listen", m.udp, "--idle-timeout", "3s"},
	} {
		if err := process.Until(ctx, strings.Join(args[1:], " "), timeout, func() error { return m.call(ctx, args[0], args[1:]...) }); err != nil {
			return err
		}
	}
	return process.Until(ctx, "the tunnel works", timeout, func() error {
		c, _, err := m.dial()
		if err == nil {
			c.Close()
		}
		return err
	})
}

// startTarget starts one of the targets, at the address that it had.
func (m *mesh) startTarget(ctx context.Context, i int) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	name := fmt.Sprintf("target-%c", 'a'+i)
	if m.targets[i], err = m.Start(name, self, "target", m.targetAddresses[i]); err != nil {
		return err
	}
	return process.Until(ctx, name+" listens", timeout, func() error { return m.targets[i].Says("listens") })
}

// start starts the hub or an agent.
func (m *mesh) start(name string, args ...string) (*process.Process, error) {
	p, err := m.Start(name, m.ztm, args...)
	if err == nil {
		m.ours = append(m.ours, p)
	}
	return p, err
}

// startSmall is start on a machine that has as much memory as a router.
func (m *mesh) startSmall(name string, args ...string) (*process.Process, error) {
	p, err := m.Start(name, "env", append([]string{"GOMEMLIMIT=24MiB", m.ztm}, args...)...)
	if err == nil {
		m.ours = append(m.ours, p)
	}
	return p, err
}

// call runs a command of ztm at an agent.
func (m *mesh) call(ctx context.Context, data string, args ...string) error {
	_, err := m.ask(ctx, data, args...)
	return err
}

// ask is call for a command that prints something.
func (m *mesh) ask(ctx context.Context, data string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, m.ztm, args...)
	cmd.Env, cmd.Stderr = append(os.Environ(), "ZTM_DATA="+data), &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, bytes.TrimSpace(stderr.Bytes()))
	}
	return out, err
}

// dropped returns how many datagrams both ends of the tunnel say that they dropped.
func (m *mesh) dropped(ctx context.Context) (total int, err error) {
	type ends []struct{ Stats struct{ Dropped int } }
	for _, data := range []string{m.entrance, m.exit} {
		out, err := m.ask(ctx, data, "stats", "tunnel", "udp/soak", "-o", "json")
		if err != nil {
			return 0, err
		}
		var s struct{ Inbound, Outbound ends }
		if err := json.Unmarshal(out, &s); err != nil {
			return 0, err
		}
		for _, e := range append(s.Inbound, s.Outbound...) {
			total += e.Stats.Dropped
		}
	}
	return total, nil
}

var accident = regexp.MustCompile(`(?m)^(panic: |fatal error: |WARNING: DATA RACE).*|panic serving.*`)

// stop ends the hub and the agents in an orderly way and returns what was wrong with them.
func (m *mesh) stop() (broken []string) {
	for _, p := range m.ours {
		if !p.Running() {
			broken = append(broken, p.Name+" ended by itself")
			continue
		}
		p.End(timeout)
		if status := p.Status(); status != 0 {
			broken = append(broken, fmt.Sprintf("%s ended with status %d", p.Name, status))
		}
		if log, err := p.Output(); err == nil {
			if found := accident.Find(log); found != nil {
				broken = append(broken, p.Name+": "+string(found))
			}
		}
	}
	return broken
}

// memory returns the highest resident memory of the hub and the agents.
func (m *mesh) memory() (list []string) {
	for _, p := range m.ours {
		if _, peak := p.Memory(); peak > 0 {
			list = append(list, fmt.Sprintf("%s %d kB", p.Name, peak>>10))
		}
	}
	return list
}

// overflows returns how many datagrams the system has dropped because a socket was full. It knows on Linux alone.
func overflows() int {
	counters, err := os.ReadFile("/proc/net/snmp")
	if err != nil {
		return 0
	}
	var names, values []string
	for line := range strings.Lines(string(counters)) {
		if f := strings.Fields(line); f[0] == "Udp:" {
			names, values = values, f
		}
	}
	i := slices.Index(names, "RcvbufErrors")
	if i < 0 {
		return 0
	}
	n, _ := strconv.Atoi(values[i])
	return n
}
