package daemon

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// Main runs the program. line is the command line without the program's name.
//
// The first process of a container inherits every process whose parent has ended, and must wait for
// each of them. A hub or agent that waited for all processes would take the exit statuses of the
// programs that it runs. So the first process starts the hub or agent as its only child, passes
// signals on, and waits for all others:
//
//	1: ztm run agent
//	├─ ztm run agent -- its sessions and their programs
//	└─ orphans
func Main(ctx context.Context, line []string, stderr io.Writer, run func(context.Context, io.Writer) int) int {
	if !IsRole(line) {
		return run(ctx, stderr)
	}
	unblock()
	if os.Getpid() != 1 {
		return run(ctx, stderr)
	}
	signals := make(chan os.Signal, 64) // never closed
	signal.Notify(signals)
	signal.Ignore(unix.SIGTTIN, unix.SIGTTOU) // this process is in the background of the terminal from now on
	pid, err := startChild()
	if err != nil {
		signal.Stop(signals)
		fmt.Fprintln(stderr, "warning: orphans are not waited for:", err)
		return run(ctx, stderr)
	}
	return tend(pid, signals)
}

// unblockedEnv is set for a program that unblock has started: it does so once.
const unblockedEnv = "ZTM_UNBLOCKED"

// unblock starts this program anew, in the same process, if it was started with signals blocked: the
// processes that it starts would inherit that mask, and Go has no other way to change it.
func unblock() {
	if os.Getenv(unblockedEnv) != "" {
		os.Unsetenv(unblockedEnv)
		return
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var none, old unix.Sigset_t
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &none, &old); err != nil || old == none {
		return
	}
	syscall.Exec("/proc/self/exe", os.Args, append(os.Environ(), unblockedEnv+"=1")) // keeps the new mask
	unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil)                                 // it failed: go on as before
}

// startChild starts this program again, in a process group of its own and in the foreground of the
// terminal, if there is one. So a signal of the terminal arrives once: it goes to the foreground
// group alone.
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
	return pid, p.Release() // tend waits for it
}

// notPassed are the signals for this process itself, or for its runtime.
var notPassed = []os.Signal{unix.SIGCHLD, unix.SIGURG, unix.SIGPIPE}

// tend waits for every process that ends, and returns the status of pid when that ends.
func tend(pid int, signals <-chan os.Signal) (status int) {
	for s := range signals {
		if !slices.Contains(notPassed, s) {
			unix.Kill(pid, s.(syscall.Signal)) // fails if it has just ended
		}
		if s != unix.SIGCHLD {
			continue
		}
		if status, ended := reap(pid); ended {
			return status
		}
	}
	return 0
}

// reap collects every zombie there is, and reports whether pid was one and how it ended.
func reap(pid int) (status int, ended bool) {
	for {
		var ws unix.WaitStatus
		zombie, err := unix.Wait4(-1, &ws, unix.WNOHANG, nil)
		switch {
		case err == unix.EINTR:
		case err != nil || zombie <= 0:
			return status, ended
		case zombie == pid && ws.Signaled():
			status, ended = 128+int(ws.Signal()), true
		case zombie == pid:
			status, ended = ws.ExitStatus(), true
		}
	}
}
