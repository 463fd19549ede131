//go:build !linux

package tunnel

import "syscall"

// setUserTimeout does nothing here: keepalive and HTTP/2 PING find a dead peer.
func setUserTimeout(syscall.RawConn) error { return nil }
