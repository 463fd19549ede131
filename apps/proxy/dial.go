package proxy

import (
	"context"
	"net"
	"net/netip"

	"ztm/apps/reach"
	"ztm/tunnel/answer"
)

// dialAny connects to the first of the addresses that answers, and says which that was. None of them is a listener of
// this proxy.
func (s *system) dialAny(ctx context.Context, network string, addrs []netip.Addr, port uint16) (net.Conn, netip.Addr, error) {
	c, addr, err := reach.Dialer{Dial: s.dialOther}.Any(ctx, network, addrs, port)
	if err != nil {
		return nil, addr, reach.Explain("the target", err)
	}
	return c, addr, nil
}

// dialOther connects to one address, unless that is a listener of this proxy.
func (s *system) dialOther(ctx context.Context, network, address string) (net.Conn, error) {
	if to, err := netip.ParseAddrPort(address); err == nil && s.own(to) {
		return nil, answer.Errorf(answer.Prohibited, "%s is this proxy itself", to)
	}
	return s.Dial(ctx, network, address)
}
