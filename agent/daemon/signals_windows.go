package daemon

import (
	"os"
	"syscall"
)

// endings returns the signals that end this process. Windows has no others.
func endings(bool) (end, survive []os.Signal) { return []os.Signal{os.Interrupt, syscall.SIGTERM}, nil }

// Shield does nothing: Windows has no umask.
func Shield() {}
