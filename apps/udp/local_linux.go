package udp

import (
	"errors"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// A UDP socket that listens on all addresses of the machine is told with each datagram to which of
// them it was sent, and says with each answer from which it is to leave: ip(7), IP_PKTINFO; RFC
// 3542 section 6. Without that the system picks the address by its routes, and a client that wrote
// to another one does not take the answer.

// localSpace holds what the system says with one datagram, in bytes: a socket for both versions of
// IP says it twice, in 32 and 40 bytes at most.
const localSpace = 128

// controlLocal makes a socket tell.
func controlLocal(network, _ string, c syscall.RawConn) error {
	var err4, err6 error
	err := c.Control(func(fd uintptr) {
		err4 = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
		if network == "udp6" {
			err6 = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
		}
	})
	return errors.Join(err, err4, err6)
}

// parseLocal returns the address of this machine that the client of a datagram talks to. It is
// invalid if the system does not say.
func parseLocal(oob []byte) netip.Addr {
	for len(oob) >= unix.SizeofCmsghdr {
		header, data, rest, err := unix.ParseOneSocketControlMessage(oob)
		if err != nil {
			break
		}
		switch {
		case header.Level == unix.IPPROTO_IP && header.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
			// After the index of the interface: the address to answer from, also where the datagram
			// was a broadcast.
			return netip.AddrFrom4([4]byte(data[4:8]))
		case header.Level == unix.IPPROTO_IPV6 && header.Type == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
			// Of a datagram over IPv4, the other message says more.
			if a := netip.AddrFrom16([16]byte(data[:16])); !a.Is4In6() && !a.IsMulticast() {
				return a
			}
		}
		oob = rest
	}
	return netip.Addr{}
}

// formatLocal is the other direction: what makes a datagram leave from an address. It is nil for an
// invalid one.
func formatLocal(a netip.Addr) []byte {
	switch {
	case a.Is4():
		return unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: a.As4()})
	case a.Is6():
		return unix.PktInfo6(&unix.Inet6Pktinfo{Addr: a.As16()})
	}
	return nil
}
