package proxy

import (
	"errors"

	"golang.org/x/sys/windows"
)

// isRefused reports that the target's host answered, and that nothing listens there. Of a UDP socket, Windows says so
// by "connection reset".
func isRefused(err error) bool {
	return errors.Is(err, windows.WSAECONNREFUSED) || errors.Is(err, windows.WSAECONNRESET)
}
