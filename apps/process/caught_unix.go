//go:build unix

package process

import (
	"os"
	"syscall"
)

// ending are the signals that end a command.
var ending = []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT}
