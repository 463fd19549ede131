//go:build unix

package service

import (
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// endings returns the signals that end this process, and those that a role survives.
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
	// A terminal that is closed hangs up twice, through its shell and through the kernel: the second does not kill.
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

// Shield takes from others the right to write what this process and its programs make, if whoever started it left them that:
// some inits start services with the umask 0.
func Shield() {
	old := unix.Umask(0o077)
	if old&0o002 == 0 {
		old |= 0o022
	}
	unix.Umask(old)
}
