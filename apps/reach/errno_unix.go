//go:build unix

package reach

import "syscall"

// What the system says, by what it means.
var (
	errsNobody      = []syscall.Errno{syscall.ECONNREFUSED}
	errsRefused     = []syscall.Errno{syscall.ECONNREFUSED, syscall.ECONNRESET}
	errsUnreachable = []syscall.Errno{
		syscall.ENETUNREACH, syscall.EHOSTUNREACH, syscall.ENETDOWN,
		syscall.EHOSTDOWN, syscall.EADDRNOTAVAIL,
	}
)
