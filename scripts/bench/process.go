package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is a program under measurement.
type process struct {
	name string
	cmd  *exec.Cmd
}

// processes are those of one run; all are stopped at its end.
type processes struct {
	dir string
	all []*process
}

func (p *processes) start(ctx context.Context, name, program string, args ...string) (*process, error) {
	log, err := os.Create(filepath.Join(p.dir, name+".log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdout, cmd.Stderr, cmd.Dir = log, log, p.dir
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	pr := &process{name, cmd}
	p.all = append(p.all, pr)
	return pr, nil
}

func (p *processes) stop() {
	for _, pr := range p.all {
		pr.cmd.Process.Signal(syscall.SIGTERM)
	}
	for _, pr := range p.all {
		kill := time.AfterFunc(8*time.Second, func() { pr.cmd.Process.Kill() })
		pr.cmd.Wait()
		kill.Stop()
	}
}

// cpu is what a process has used.
type cpu struct{ User, All time.Duration }

func (c cpu) minus(d cpu) cpu { return cpu{c.User - d.User, c.All - d.All} }

const clockTick = 10 * time.Millisecond // USER_HZ is 100 on every Linux

func (p *process) cpu() cpu {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return cpu{}
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	f := strings.Fields(rest)
	user, _ := strconv.ParseInt(f[11], 10, 64)
	system, _ := strconv.ParseInt(f[12], 10, 64)
	return cpu{time.Duration(user) * clockTick, time.Duration(user+system) * clockTick}
}

// rss is the resident memory in bytes; peak is its highest so far.
func (p *process) rss() (now, peak int64) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
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

// until waits for a condition, for so long at most.
func until(ctx context.Context, what string, patience time.Duration, f func() error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
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

func listens(address string) func() error {
	return func() error {
		c, err := net.Dial("tcp", address)
		if err == nil {
			c.Close()
		}
		return err
	}
}

// freeAddress is a loopback address that was free a moment ago.
func freeAddress() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer ln.Close()
	return ln.Addr().String(), nil
}
