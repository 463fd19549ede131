//go:build unix

package daemon

import (
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// endings returns the signals that end this process, and those that the hub and the agent survive.
func endings(role bool) (end, survive []os.Signal) {
	for _, s := range []os.Signal{syscall.SIGINT, syscall.SIGTERM} {
		switch {
		case !signal.Ignored(s):
			end = append(end, s)
		case role:
			survive = append(survive, s)
		}
	}
	if !role {
		return end, nil
	}
	if !signal.Ignored(syscall.SIGHUP) && hasTerminal() {
		end = append(end, syscall.SIGHUP)
	}
	// The first process of a container had to ignore these to give this one the terminal, see Main. Go
	// does not say that they are ignored.
	if os.Getppid() == 1 {
		survive = append(survive, syscall.SIGTTIN, syscall.SIGTTOU)
	}
	// When a terminal is closed, both its shell and the kernel send SIGHUP. The second one must not
	// kill.
	return end, append(survive, syscall.SIGHUP, syscall.SIGPIPE)
}

// hasTerminal reports whether this process was started in a terminal.
func hasTerminal() bool {
	f, err := os.OpenFile("/dev/tty", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return false
	}
	f.Close()
	return true
}

// Shield keeps other accounts from writing the files that this process and its programs create:
// some inits start services with the umask 0.
func Shield() {
	old := unix.Umask(0o077)
	if old&0o002 == 0 {
		old |= 0o022
	}
	unix.Umask(old)
}
