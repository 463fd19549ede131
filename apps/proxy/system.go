package proxy

import (
	"context"
	"net"
	"net/netip"
	"os"
	"slices"

	"ztm/apps/reach"
)

// Options replace what the proxy uses of the system it runs on. The zero value is the system itself.
type Options struct {
	Resolver   Resolver // nil is a *net.Resolver
	ResolvConf string   // path of the resolv.conf(5) with the search domains and the name servers; "" is /etc/resolv.conf

	// Dial connects to an address, never a name: network is "tcp" or "udp". nil is [reach.System].
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// system is where connections from this endpoint come from.
type system struct {
	Options
	bound   func() []netip.AddrPort // where this proxy listens itself, for clients and for DNS
	servers servers
}

func newSystem(o Options, bound func() []netip.AddrPort) *system {
	s := &system{Options: o, bound: bound}
	if s.Dial == nil {
		s.Dial = reach.System
	}
	if s.ResolvConf == "" {
		s.ResolvConf = "/etc/resolv.conf"
	}
	if s.Resolver == nil {
		s.Resolver = &net.Resolver{Dial: s.dialServer}
	}
	return s
}

// own reports whether the proxy itself listens at an address.
func (s *system) own(to netip.AddrPort) bool {
	return slices.ContainsFunc(s.bound(), func(b netip.AddrPort) bool {
		if b.Port() != to.Port() {
			return false
		}
		return b.Addr().Unmap() == to.Addr().Unmap() || b.Addr().IsUnspecified() && isLocal(to.Addr())
	})
}

// isLocal reports whether an address is one of this device.
func isLocal(a netip.Addr) bool {
	if a.IsLoopback() {
		return true
	}
	all, err := net.InterfaceAddrs()
	return err == nil && slices.ContainsFunc(all, func(i net.Addr) bool {
		n, ok := i.(*net.IPNet)
		if !ok {
			return false
		}
		ip, ok := netip.AddrFromSlice(n.IP)
		return ok && ip.Unmap() == a.Unmap()
	})
}

// nameServers returns the name servers of this device, but not this proxy. They are not known where there is no
// resolv.conf.
func (s *system) nameServers() (_ []netip.AddrPort, known bool) {
	if _, err := os.Stat(s.ResolvConf); err != nil {
		return nil, false
	}
	return slices.DeleteFunc(readResolvConf(s.ResolvConf).servers, s.own), true
}
