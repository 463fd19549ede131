//go:build linux

package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// process is a program that a test started. It ends with the test.
type process struct {
	t    testing.TB
	name string
	cmd  *exec.Cmd
	log  string        // file that takes what it prints
	done chan struct{} // closed when it has ended
}

// launch starts a program whose output goes to a log file, which is shown if the test fails.
func launch(t testing.TB, name string, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{t: t, name: name, cmd: cmd, done: make(chan struct{})}
	log, err := os.CreateTemp(workspace, "log-"+name+"-")
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	p.log = log.Name()
	cmd.Stdout, cmd.Stderr = log, log
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL // should the test itself be killed
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { // ends with the process; awaited by kill
		cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("--- log of %s (%v)\n%s", name, cmd, tail(p.output(), 30))
		}
	})
	return p
}

// tail returns the last lines of a text.
func tail(s string, n int) string {
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// output returns what the process has printed.
func (p *process) output() string {
	b, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func (p *process) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// signal sends a signal to a process that must be there.
func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatalf("%s: %v", p.name, err)
	}
}

// kill ends the process at once and waits for that. A process that has ended already is left alone.
func (p *process) kill() {
	p.cmd.Process.Kill()
	<-p.done
}

// stop asks the process to end and returns its exit status. One that does not end within timeout fails the test.
func (p *process) stop() int {
	p.t.Helper()
	if p.running() {
		p.signal(syscall.SIGTERM)
	}
	return p.wait()
}

// wait waits for the end of the process and returns its exit status.
func (p *process) wait() int {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(timeout):
		p.cmd.Process.Signal(syscall.SIGQUIT) // a Go program prints its goroutines
		select {
		case <-p.done:
		case <-time.After(timeout):
		}
		p.t.Fatalf("%s does not end", p.name)
	}
	return p.cmd.ProcessState.ExitCode()
}

// accident matches what a Go program prints when it is broken.
var accident = regexp.MustCompile(`(?m)^(panic: |fatal error: |WARNING: DATA RACE|unexpected fault address).*|http2: panic serving.*|http: panic serving.*`)

// examine fails the test if the log tells of a panic or of a data race.
func (p *process) examine() {
	p.t.Helper()
	if found := accident.FindString(p.output()); found != "" {
		p.t.Errorf("%s: %s\n%s", p.name, found, p.output())
	}
}

// goroutines ends a Go program and returns the stacks of its goroutines.
func (p *process) goroutines() []string {
	p.t.Helper()
	p.signal(syscall.SIGQUIT)
	p.wait()
	var stacks []string
	for part := range strings.SplitSeq(p.output(), "\n\n") {
		if strings.HasPrefix(part, "goroutine ") {
			stacks = append(stacks, part)
		}
	}
	if len(stacks) == 0 {
		p.t.Fatalf("%s did not print its goroutines", p.name)
	}
	return stacks
}

func (p *process) proc(name string) string { return fmt.Sprintf("/proc/%d/%s", p.pid(), name) }

// fds returns what the file descriptors of the process refer to.
func (p *process) fds() []string {
	p.t.Helper()
	entries, err := os.ReadDir(p.proc("fd"))
	if err != nil {
		p.t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		target, err := os.Readlink(filepath.Join(p.proc("fd"), e.Name()))
		if errors.Is(err, os.ErrNotExist) {
			continue // closed meanwhile
		}
		out = append(out, target)
	}
	return out
}

// cpu returns the processor time that the process has used, in its own code and in the kernel's on its behalf.
func (p *process) cpu() (user, system time.Duration) {
	p.t.Helper()
	b, err := os.ReadFile(p.proc("stat"))
	if err != nil {
		p.t.Fatal(err)
	}
	// The name, in parentheses, may hold anything. Fields 14 and 15 of proc_pid_stat(5) are in hundredths of a second.
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	return ticks(p.t, fields[11]), ticks(p.t, fields[12])
}

func ticks(t testing.TB, s string) time.Duration {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return time.Duration(n) * 10 * time.Millisecond
}

// rss returns the memory of the process that is resident, in bytes.
func (p *process) rss() int {
	p.t.Helper()
	b, err := os.ReadFile(p.proc("status"))
	if err != nil {
		p.t.Fatal(err)
	}
	m := regexp.MustCompile(`VmRSS:\s+(\d+) kB`).FindSubmatch(b)
	if m == nil {
		p.t.Fatalf("%s has no VmRSS", p.name)
	}
	n, err := strconv.Atoi(string(m[1]))
	if err != nil {
		p.t.Fatal(err)
	}
	return n << 10
}

// connections returns the remote addresses of the TCP connections that the process has, IPv4 as the kernel writes
// them: address and port in hexadecimal digits, "0100007F:1F90".
func (p *process) connections() []string {
	p.t.Helper()
	inodes := map[string]bool{}
	for _, fd := range p.fds() {
		if inode, ok := strings.CutPrefix(fd, "socket:["); ok {
			inodes[strings.TrimSuffix(inode, "]")] = true
		}
	}
	b, err := os.ReadFile(p.proc("net/tcp"))
	if err != nil {
		p.t.Fatal(err)
	}
	const established = "01"
	var out []string
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 9 && f[3] == established && inodes[f[9]] {
			out = append(out, f[2])
		}
	}
	return out
}

// kernelAddress is the address of a port on this machine as [process.connections] has it.
func kernelAddress(port int) string { return fmt.Sprintf("0100007F:%04X", port) }
