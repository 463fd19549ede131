package service

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// Main runs the program: the command line is without its name. Where the system has started it as a service, or as the first process
// of a container, it does what the system expects of that.
//
// The first process of a container inherits every process whose parent has ended, and must wait for each. If the hub or the agent did
// that itself it would take the exit statuses of the programs that it runs. So the first process starts it as its only child, passes
// signals on and waits for everybody:
//
//	1: ztm run agent
//	├─ ztm run agent -- its sessions and their programs
//	└─ orphans
func Main(ctx context.Context, line []string, stderr io.Writer, run func(context.Context, io.Writer) int) int {
	if os.Getpid() != 1 || !IsRole(line) {
		return run(ctx, stderr)
	}
	signals := make(chan os.Signal, 64) // never closed
	signal.Notify(signals)
	signal.Ignore(unix.SIGTTIN, unix.SIGTTOU) // what gives the terminal to another group is in the background itself
	pid, err := startChild()
	if err != nil {
		signal.Stop(signals)
		fmt.Fprintln(stderr, "warning: orphans are not waited for:", err)
		return run(ctx, stderr)
	}
	return tend(pid, signals)
}

// startChild starts this program again, in a process group of its own: a terminal signals the group in its foreground, and a signal
// must not arrive there twice.
func startChild() (pid int, err error) {
	attr := &os.ProcAttr{Files: []*os.File{os.Stdin, os.Stdout, os.Stderr}, Sys: &syscall.SysProcAttr{Setpgid: true}}
	if _, err := unix.IoctlGetInt(0, unix.TIOCGPGRP); err == nil {
		attr.Sys.Foreground, attr.Sys.Ctty = true, 0
	}
	p, err := os.StartProcess("/proc/self/exe", os.Args, attr)
	if err != nil {
		return 0, err
	}
	pid = p.Pid
	return pid, p.Release() // tend waits for it, among others
}

// notPassed are the signals that are the business of this process, or of its runtime.
var notPassed = []os.Signal{unix.SIGCHLD, unix.SIGURG, unix.SIGPIPE}

// tend waits for every process that ends, and returns the status of pid when that ends.
func tend(pid int, signals <-chan os.Signal) (status int) {
	for s := range signals {
		if !slices.Contains(notPassed, s) {
			unix.Kill(pid, s.(syscall.Signal)) // it may have ended just now
		}
		if s != unix.SIGCHLD {
			continue
		}
		for {
			var ws unix.WaitStatus
			ended, err := unix.Wait4(-1, &ws, unix.WNOHANG, nil)
			if err == unix.EINTR {
				continue
			}
			if err != nil || ended <= 0 {
				break
			}
			if ended == pid && ws.Signaled() {
				return 128 + int(ws.Signal())
			}
			if ended == pid {
				return ws.ExitStatus()
			}
		}
	}
	return 0
}
