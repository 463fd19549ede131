package reach

import (
	"context"
	"io"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"ztm/apps/listen"
	"ztm/tunnel/race"
)

const (
	// Timeout is how long a [Dialer] tries, for all addresses of a destination together.
	Timeout = 10 * time.Second
	// AttemptDelay is how long an address may stay silent before the next one is tried, too: the Connection Attempt
	// Delay of RFC 8305 section 5.
	AttemptDelay = 250 * time.Millisecond
)

// Dialer connects to destinations with several addresses as RFC 8305 says. The zero value uses the system; it does not
// change, and its methods may be called from any goroutine.
type Dialer struct {
	// Dial connects to one address, never a name. Nil is [System].
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	// Lookup finds the addresses of a name; network is "ip", "ip4" or "ip6". Nil is the default resolver's.
	Lookup func(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Any connects to the first of the addresses that answers, and says which that was. It does not wait for an address
// that stays silent: the next one is tried [AttemptDelay] later, or at once when one fails. Addresses of both families
// take turns. It ends after [Timeout] at the latest. The error is that of the first attempt that failed, or better the
// first that was refused. [Explain] puts it into words.
func (d Dialer) Any(ctx context.Context, network string, addrs []netip.Addr, port uint16) (net.Conn, netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	all := interleave(addrs)
	c, i, errs := race.First(ctx, len(all), AttemptDelay, func(ctx context.Context, i int) (io.Closer, error) {
		return d.one(ctx, network, netip.AddrPortFrom(all[i], port).String())
	})
	if i >= 0 {
		return c.(net.Conn), all[i], nil
	}
	return nil, netip.Addr{}, telling(errs)
}

// telling is the error that says most of those of all addresses.
func telling(errs []error) error {
	if i := slices.IndexFunc(errs, IsRefused); i >= 0 { // a host that answers says more than silence
		return errs[i]
	}
	if len(errs) > 0 {
		return errs[0]
	}
	return &net.DNSError{Err: "no suitable address found", IsNotFound: true}
}

// Host connects to a name, or to an address that is written as such, as [Dialer.Any] does.
func (d Dialer) Host(ctx context.Context, network, host string, port uint16) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	if _, err := netip.ParseAddr(host); err == nil { // a zone is kept: it is this endpoint that connects
		return d.one(ctx, network, net.JoinHostPort(host, strconv.Itoa(int(port))))
	}
	lookup := d.Lookup
	if lookup == nil {
		lookup = net.DefaultResolver.LookupNetIP
	}
	addrs, err := lookup(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	for i, a := range addrs {
		addrs[i] = a.Unmap()
	}
	c, _, err := d.Any(ctx, network, addrs, port)
	return c, err
}

func (d Dialer) one(ctx context.Context, network, address string) (net.Conn, error) {
	if d.Dial != nil {
		return d.Dial(ctx, network, address)
	}
	return System(ctx, network, address)
}

// System connects to one address as the system does, with the options of accepted connections: see package listen.
func System(ctx context.Context, network, address string) (net.Conn, error) {
	d := net.Dialer{KeepAliveConfig: listen.KeepAlive, Control: listen.InlineUrgent}
	if to, err := netip.ParseAddrPort(address); err == nil && to.Addr().IsLoopback() {
		d.KeepAliveConfig.Enable, d.KeepAlive = false, -1 // as at listeners
		d.Control = connectHere
	}
	return d.DialContext(ctx, network, address)
}

// interleave returns the addresses in their order, but so that the families take turns (RFC 8305 section 4): where one
// family leads nowhere, the other one is tried soon.
func interleave(addrs []netip.Addr) []netip.Addr {
	var first, second []netip.Addr
	for _, a := range addrs {
		if a.Is4() == addrs[0].Is4() {
			first = append(first, a)
		} else {
			second = append(second, a)
		}
	}
	out := make([]netip.Addr, 0, len(addrs))
	for i := range max(len(first), len(second)) {
		if i < len(first) {
			out = append(out, first[i])
		}
		if i < len(second) {
			out = append(out, second[i])
		}
	}
	return out
}
