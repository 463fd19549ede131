// Package process runs the programs that a script measures, and reads what the system says of them.
package process

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"ztm/tunnel/freeport"
)

// Group is the programs of one run. The zero value is not useful: Dir must be set. It is for one goroutine.
type Group struct {
	Dir string // of their logs; it is their working directory, too
	all []*Process
}

// Process is a program that was started.
type Process struct {
	Name string
	cmd  *exec.Cmd
	log  string
	done chan struct{} // closed when it has ended
}

// Start starts a program, whose output goes to NAME.log.
func (g *Group) Start(name, program string, args ...string) (*Process, error) {
	p := &Process{Name: name, cmd: exec.Command(program, args...), log: filepath.Join(g.Dir, name+".log"), done: make(chan struct{})}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.Dir = log, log, g.Dir
	endWithUs(p.cmd)
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { // ends with the program; End awaits it
		p.cmd.Wait()
		close(p.done)
	}()
	g.all = append(g.all, p)
	return p, nil
}

// End ends all programs.
func (g *Group) End(timeout time.Duration) {
	for _, p := range g.all {
		p.cmd.Process.Signal(syscall.SIGTERM)
	}
	for _, p := range g.all {
		p.End(timeout)
	}
}

// End asks the program to end, kills it if it has not within timeout, and waits for its end.
func (p *Process) End(timeout time.Duration) {
	p.cmd.Process.Signal(syscall.SIGTERM)
	late := time.AfterFunc(timeout, func() { p.cmd.Process.Kill() })
	defer late.Stop()
	<-p.done
}

// Signal sends a signal to the program.
func (p *Process) Signal(s syscall.Signal) error { return p.cmd.Process.Signal(s) }

// Kill ends the program at once, and waits for its end.
func (p *Process) Kill() {
	p.cmd.Process.Kill()
	<-p.done
}

// Running reports whether the program has not ended.
func (p *Process) Running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Proc returns the path of a file that the system keeps on the program: "fd".
func (p *Process) Proc(file string) string {
	return fmt.Sprintf("/proc/%d/%s", p.cmd.Process.Pid, file)
}

// Pid is its ID in the system.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Status is its exit status; it is for a program that has ended.
func (p *Process) Status() int { return p.cmd.ProcessState.ExitCode() }

// Output is what it has printed so far.
func (p *Process) Output() ([]byte, error) { return os.ReadFile(p.log) }

// Says returns nil if the program has printed a text.
func (p *Process) Says(text string) error {
	log, err := p.Output()
	if err == nil && !bytes.Contains(log, []byte(text)) {
		err = fmt.Errorf("%s has not said %q:\n%s", p.Name, text, log)
	}
	return err
}

// Ztm returns the path of the program that is measured: of a binary that was named, or of one that is built below dir as
// releases are.
func Ztm(ctx context.Context, binary, dir string) (string, error) {
	if binary != "" {
		return filepath.Abs(binary) // processes run elsewhere
	}
	path, err := filepath.Abs(filepath.Join(dir, "ztm"))
	if err != nil {
		return "", err
	}
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-tags", releaseTags, "-o", path, "ztm")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, out)
	}
	return path, nil
}

// releaseTags are those of cross/targets.go for this system.
const releaseTags = "urfave_cli_no_docs,urfave_cli_no_suggest,nethttpomithttp2"

// CPU is processor time.
type CPU struct{ User, All time.Duration }

// Minus is what was used since d.
func (c CPU) Minus(d CPU) CPU { return CPU{c.User - d.User, c.All - d.All} }

const clockTick = 10 * time.Millisecond // USER_HZ is 100 on every Linux

// CPU returns what the program has used; zero where the system does not tell.
func (p *Process) CPU() CPU {
	b, err := os.ReadFile(p.Proc("stat"))
	if err != nil {
		return CPU{}
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	f := strings.Fields(rest)
	if len(f) < 13 {
		return CPU{}
	}
	user, _ := strconv.ParseInt(f[11], 10, 64)
	system, _ := strconv.ParseInt(f[12], 10, 64)
	return CPU{time.Duration(user) * clockTick, time.Duration(user+system) * clockTick}
}

// Memory returns the resident memory in bytes, and the most it has been; zero where the system does not tell.
func (p *Process) Memory() (now, peak int64) {
	f, err := os.Open(p.Proc("status"))
	if err != nil {
		return 0, 0
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		key, value, _ := strings.Cut(s.Text(), ":")
		n, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		switch key {
		case "VmRSS":
			now = n << 10
		case "VmHWM":
			peak = n << 10
		}
	}
	return now, peak
}

// Until tries until it works, for so long at most.
func Until(ctx context.Context, what string, timeout time.Duration, f func() error) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
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

// leases are those of this process.
var leases struct {
	sync.Mutex
	ends []func()
}

// FreeAddress is a loopback address on which nobody listens. It is leased until this process ends.
func FreeAddress() string {
	port, release, err := freeport.Lease(1)
	if err != nil {
		panic(err) // thousands of ports are taken: nothing that is measured here would be true
	}
	// A lease that nobody can end any longer ends with the next garbage collection.
	leases.Lock()
	defer leases.Unlock()
	leases.ends = append(leases.ends, release)
	return fmt.Sprintf("127.0.0.1:%d", port)
}
