package proxy

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"

	"ztm/apps"
)

const (
	connectTimeout = 10 * time.Second       // for all addresses of a destination together
	nextAddress    = 250 * time.Millisecond // RFC 8305 section 5: the Connection Attempt Delay
)

// dialAny connects to the first of the addresses that answers, and says which that was. As in RFC 8305 it does not wait for an address that
// stays silent: the next one is tried a quarter of a second later, or at once when one fails.
func (s *system) dialAny(ctx context.Context, network string, addrs []netip.Addr, port uint16) (net.Conn, netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()

	type result struct {
		conn net.Conn
		addr netip.Addr
		err  error
	}
	results := make(chan result) // unbuffered, never closed: every attempt is waited for below
	attempt := func(a netip.Addr) {
		c, err := s.dialOne(ctx, network, netip.AddrPortFrom(a, port))
		results <- result{c, a, err}
	}
	delay := time.NewTimer(0)
	defer delay.Stop()

	var first error
	var won result
	for running := 0; ; {
		start := delay.C
		if len(addrs) == 0 || won.conn != nil {
			start = nil
			if running == 0 {
				break
			}
		}
		select {
		case <-start:
			go attempt(addrs[0])
			addrs, running = addrs[1:], running+1
			delay.Reset(nextAddress)
		case r := <-results:
			running--
			switch {
			case r.err == nil && won.conn == nil:
				won = r
				cancel() // the other attempts give up
			case r.err == nil:
				r.conn.Close()
			case first == nil:
				first = r.err
			}
			delay.Reset(0)
		}
	}
	if won.conn != nil {
		return won.conn, won.addr, nil
	}
	return nil, netip.Addr{}, dialError(first)
}

// dialOne connects to one address, unless that is a listener of this proxy.
func (s *system) dialOne(ctx context.Context, network string, to netip.AddrPort) (net.Conn, error) {
	if s.own(to) {
		return nil, apps.Errorf(apps.Prohibited, "%s is this proxy itself", to)
	}
	return s.Dial(ctx, network, to.String())
}

// dialError says what a failed connection means to the one who asked for it.
func dialError(err error) error {
	var known *apps.Error
	var timeout net.Error
	switch {
	case errors.As(err, &known):
		return known
	case isRefused(err):
		return apps.Errorf(apps.Refused, "connection refused by the target")
	case errors.As(err, &timeout) && timeout.Timeout() || errors.Is(err, context.DeadlineExceeded):
		return apps.Errorf(apps.Timeout, "the target did not answer within %s", connectTimeout)
	}
	return apps.Errorf(apps.Unreachable, "the target cannot be reached from the exit")
}
