//go:build !linux

package reach

import (
	"syscall"

	"ztm/apps/listen"
)

// connectHere is the Control of a dialler whose target is on this machine.
func connectHere(network, address string, c syscall.RawConn) error {
	return listen.InlineUrgent(network, address, c)
}
