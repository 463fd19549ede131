package reach

import (
	"syscall"

	"golang.org/x/sys/windows"
)

// What the system says, by what it means.
var (
	errsNobody      = errsRefused
	errsRefused     = []syscall.Errno{windows.WSAECONNREFUSED, windows.WSAECONNRESET}
	errsUnreachable = []syscall.Errno{
		windows.WSAENETUNREACH, windows.WSAEHOSTUNREACH, windows.WSAENETDOWN,
		windows.WSAEHOSTDOWN, windows.WSAEADDRNOTAVAIL,
	}
)
