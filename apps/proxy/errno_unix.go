//go:build unix

package proxy

import (
	"errors"
	"syscall"
)

// isRefused reports that the target's host answered, and that nothing listens there.
func isRefused(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }
