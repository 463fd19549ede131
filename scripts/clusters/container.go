//go:build linux

package main

import (
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
)

// contain runs a program as a runtime of containers does: as the first process of its own namespace, see
// [enter]. It hands on signals, and fails if the program does.
func contain(root string, words []string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	runtime.LockOSThread() // the signal below comes when this thread ends
	cmd := exec.Command(self, append([]string{"-enter", root}, words...)...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	signals := make(chan os.Signal, 10)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	if err := cmd.Start(); err != nil {
		return err
	}
	go func() { // ends with this process
		for s := range signals {
			cmd.Process.Signal(s)
		}
	}()
	return cmd.Wait()
}

// enter becomes the program: a directory is its root, with a /proc of its own, and its user and group are
// those of our images, which leaves it no capability.
func enter(root string, words []string) error {
	const user = 65532
	err := errors.Join(
		syscall.Mount("", "/", "", syscall.MS_PRIVATE|syscall.MS_REC, ""),
		syscall.Mount("proc", filepath.Join(root, "proc"), "proc", 0, ""),
		syscall.Chroot(root),
		os.Chdir("/"),
		syscall.Setgroups(nil),
		syscall.Setgid(user),
		syscall.Setuid(user),
	)
	if err != nil {
		return err
	}
	return syscall.Exec(words[0], words, os.Environ())
}
