package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// patience is how long anything may take that is to happen by itself.
const patience = 30 * time.Second

// process is a program that runs.
type process struct {
	name string
	cmd  *exec.Cmd
	log  string
	done chan struct{} // closed when it has ended
}

func (p *process) pid() uint64 { return uint64(p.cmd.Process.Pid) }

// end kills the process.
func (p *process) end() {
	p.cmd.Process.Kill()
	<-p.done
}

// processes are all that were started.
type processes struct {
	dir string
	all []*process
}

func (ps *processes) start(name, program string, args ...string) (*process, error) {
	log, err := os.Create(filepath.Join(ps.dir, name+".log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p := &process{name: name, cmd: exec.Command(program, args...), log: log.Name(), done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.Dir = log, log, ps.dir
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { // ends with the process; awaited by end and stop
		p.cmd.Wait()
		close(p.done)
	}()
	ps.all = append(ps.all, p)
	return p, nil
}

// kill ends whatever still runs.
func (ps *processes) kill() {
	for _, p := range ps.all {
		p.end()
	}
}

// bench is the mesh, its tunnel and its targets.
type bench struct {
	processes
	ztm             string
	entrance, exit  string // their data directories
	tcp, udp        string // where the entrance listens
	targets         [2]*process
	targetAddresses [2]string
}

// prepare starts everything and opens the tunnels.
func (b *bench) prepare(ctx context.Context) error {
	address, permit := freeAddress(), filepath.Join(b.dir, "root.json")
	hub, err := b.start("hub", b.ztm, "run", "hub", "--data", filepath.Join(b.dir, "hub"), "--listen", address, "--names", address, "--permit", permit)
	if err != nil {
		return err
	}
	if err := until(ctx, "the hub runs", func() error { return hub.says("hub runs") }); err != nil {
		return err
	}
	for i, name := range []string{"entrance", "exit"} {
		data := filepath.Join(b.dir, name)
		if _, err := b.start(name, b.ztm, "run", "agent", "--data", data); err != nil {
			return err
		}
		if err := until(ctx, name+" joins", func() error { return b.call(ctx, data, "join", "soak", "--as", name, "--permit", permit) }); err != nil {
			return err
		}
		*[]*string{&b.entrance, &b.exit}[i] = data
	}
	for i := range b.targets {
		b.targetAddresses[i] = freeAddress()
		if err := b.startTarget(ctx, i); err != nil {
			return err
		}
	}
	b.tcp, b.udp = freeAddress(), freeAddress()
	for _, args := range [][]string{
		{b.exit, "tunnel", "open", "outbound", "tcp/soak", "--targets", b.targetAddresses[0], b.targetAddresses[1]},
		{b.exit, "tunnel", "open", "outbound", "udp/soak", "--targets", b.targetAddresses[0], b.targetAddresses[1]},
		{b.entrance, "tunnel", "open", "inbound", "tcp/soak", "--listen", b.tcp},
		{b.entrance, "tunnel", "open", "inbound", "udp/soak", "--listen", b.udp},
	} {
		if err := until(ctx, strings.Join(args[1:], " "), func() error { return b.call(ctx, args[0], args[1:]...) }); err != nil {
			return err
		}
	}
	return until(ctx, "the tunnel works", func() error {
		c, _, err := b.dial()
		if err == nil {
			c.Close()
		}
		return err
	})
}

// startTarget starts one of the targets, at the address that it had.
func (b *bench) startTarget(ctx context.Context, i int) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	name := fmt.Sprintf("target-%c", 'a'+i)
	if b.targets[i], err = b.start(name, self, "target", b.targetAddresses[i]); err != nil {
		return err
	}
	return until(ctx, name+" listens", func() error { return b.targets[i].says("listens") })
}

// says returns nil if the log of a process has a text.
func (p *process) says(text string) error {
	log, err := os.ReadFile(p.log)
	if err == nil && !bytes.Contains(log, []byte(text)) {
		err = fmt.Errorf("%s has not said %q:\n%s", p.name, text, log)
	}
	return err
}

// call runs a command of ztm at an agent.
func (b *bench) call(ctx context.Context, data string, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, b.ztm, args...)
	cmd.Env = append(os.Environ(), "ZTM_DATA="+data)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

var accident = regexp.MustCompile(`(?m)^(panic: |fatal error: |WARNING: DATA RACE).*|panic serving.*`)

// stop ends the hub and the agents in an orderly way and returns what was wrong with them.
func (b *bench) stop() (broken []string) {
	for _, p := range b.all {
		if p.cmd.Path != b.ztm {
			continue
		}
		select {
		case <-p.done:
			broken = append(broken, p.name+" ended by itself")
			continue
		default:
		}
		p.cmd.Process.Signal(syscall.SIGTERM)
		late := time.AfterFunc(patience, func() { p.cmd.Process.Kill() })
		<-p.done
		late.Stop()
		if status := p.cmd.ProcessState.ExitCode(); status != 0 {
			broken = append(broken, fmt.Sprintf("%s ended with status %d", p.name, status))
		}
		if log, err := os.ReadFile(p.log); err == nil {
			if found := accident.Find(log); found != nil {
				broken = append(broken, p.name+": "+string(found))
			}
		}
	}
	return broken
}

// memory returns the highest resident memory of the hub and the agents.
func (b *bench) memory() (list []string) {
	peak := regexp.MustCompile(`VmHWM:\s+(\d+ kB)`)
	for _, p := range b.all {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.pid()))
		if found := peak.FindSubmatch(status); p.cmd.Path == b.ztm && err == nil && found != nil {
			list = append(list, p.name+" "+string(found[1]))
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

// until tries until it works, for so long as patience lasts.
func until(ctx context.Context, what string, f func() error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", what, errors.Join(ctx.Err(), err))
		}
	}
}

// freeAddress is a loopback address on which nobody listens, outside of the ports that outgoing connections get.
func freeAddress() string {
	for {
		address := fmt.Sprintf("127.0.0.1:%d", 12000+rand.IntN(18000))
		if ln, err := net.Listen("tcp", address); err == nil {
			ln.Close()
			return address
		}
	}
}
