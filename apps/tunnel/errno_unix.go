//go:build unix

package tunnel

import "syscall"

// What the system says, by what it means.
var (
	errsRefused     = []syscall.Errno{syscall.ECONNREFUSED, syscall.ECONNRESET}
	errsUnreachable = []syscall.Errno{
		syscall.ENETUNREACH, syscall.EHOSTUNREACH, syscall.ENETDOWN,
		syscall.EHOSTDOWN, syscall.EADDRNOTAVAIL,
	}
)
