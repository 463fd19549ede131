package exit

import (
	"context"
	"net"
	"net/netip"

	"ztm/apps/reach"
	"ztm/tunnel/answer"
)

// dialAny connects to the first of the addresses that answers, and says which that was. None of them is a listener of
// this proxy.
func (e *Exit) dialAny(ctx context.Context, network string, addrs []netip.Addr, port uint16) (net.Conn, netip.Addr, error) {
	c, addr, err := reach.Dialer{Dial: e.dialOther}.Any(ctx, network, addrs, port)
	if err != nil {
		return nil, addr, reach.Explain("the target", err)
	}
	return c, addr, nil
}

// dialOther connects to one address, unless that is a listener of this proxy.
func (e *Exit) dialOther(ctx context.Context, network, address string) (net.Conn, error) {
	if to, err := netip.ParseAddrPort(address); err == nil && e.sys.Own(to) {
		return nil, answer.Errorf(answer.Prohibited, "%s is this proxy itself", to)
	}
	return e.sys.Dial(ctx, network, address)
}
