package reach

import (
	"net/netip"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"ztm/apps/listen"
)

// connectHere is the Control of a dialler whose target is on this machine. It connects before the
// dialler does: the kernel shakes hands with itself within that call, so that the dialler finds the
// socket connected and neither waits nor sets timers, which is most of what such a dial costs.
// Whatever comes of it the dialler finds out by its own call. Where the handshake is not over, as
// with a listener whose queue is full, that call says so and the dialler waits as usual.
func connectHere(network, address string, c syscall.RawConn) error {
	if err := listen.InlineUrgent(network, address, c); err != nil {
		return err
	}
	to, err := netip.ParseAddrPort(address)
	if err != nil || !strings.HasPrefix(network, "tcp") {
		return nil
	}
	var sa unix.Sockaddr = &unix.SockaddrInet6{Addr: to.Addr().As16(), Port: int(to.Port())}
	if network == "tcp4" {
		sa = &unix.SockaddrInet4{Addr: to.Addr().Unmap().As4(), Port: int(to.Port())}
	}
	return c.Control(func(fd uintptr) { unix.Connect(int(fd), sa) })
}
