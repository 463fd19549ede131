//go:build !linux

package tunnel

import (
	"syscall"
	"time"
)

// setUserTimeout does nothing here: keepalive and HTTP/2 PING find a dead peer.
func setUserTimeout(syscall.RawConn, time.Duration) error { return nil }
