package tunnel

import (
	"context"
	"errors"
	"net"
	"os"
	"syscall"
	"time"

	"ztm/apps/listen"
	"ztm/tunnel/answer"
)

const (
	// dialTimeout is how long an exit tries its targets for one flow, all of them together.
	dialTimeout = 10 * time.Second
	// dialShare is the least time that one of several targets gets.
	dialShare = 2 * time.Second
)

// dialAny connects to the first of the addresses that answers, and returns which one that was. Each address has its
// share of [dialTimeout]. failed hears of those that did not answer. The error is the last one's.
func dialAny(ctx context.Context, transport string, list []Address, failed func(Address, error)) (net.Conn, Address, error) {
	deadline := time.Now().Add(dialTimeout)
	var err error
	for i, a := range list {
		share := max(time.Until(deadline)/time.Duration(len(list)-i), dialShare)
		var c net.Conn
		if c, err = dialTarget(ctx, transport, a, share); err == nil {
			return c, a, nil
		}
		if ctx.Err() != nil {
			break
		}
		failed(a, err)
	}
	return nil, Address{}, err
}

// dialTarget connects to one address. A host with several addresses is tried as RFC 8305 says. The error is an
// *answer.Error that names the address.
func dialTarget(ctx context.Context, transport string, a Address, timeout time.Duration) (net.Conn, error) {
	d := net.Dialer{Timeout: timeout, KeepAliveConfig: listen.KeepAlive, Control: listen.InlineUrgent}
	network, address := a.network(transport)
	c, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, dialError(a, err)
	}
	return c, nil
}

// dialError says what a failure to connect means. What the system says is not passed on as it is: it may name
// resolvers and addresses of the exit's network.
func dialError(a Address, err error) *answer.Error {
	var dns *net.DNSError
	var timeout net.Error
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		return answer.Errorf(answer.DNS, "target %s: no such host", a)
	case errors.As(err, &dns):
		return answer.Errorf(answer.DNS, "target %s: the name could not be resolved", a)
	case isAny(err, errsRefused):
		return answer.Errorf(answer.Refused, "target %s refused the connection", a)
	case isAny(err, errsUnreachable):
		return answer.Errorf(answer.Unreachable, "target %s is unreachable", a)
	case errors.Is(err, os.ErrNotExist):
		return answer.Errorf(answer.Refused, "target %s: no such socket", a)
	case errors.Is(err, os.ErrPermission):
		return answer.Errorf(answer.Refused, "target %s: the exit has no permission to connect to it", a)
	case errors.As(err, &timeout) && timeout.Timeout():
		return answer.Errorf(answer.Timeout, "target %s did not answer in time", a)
	case errors.Is(err, context.Canceled):
		return answer.Errorf(answer.Broken, "target %s: the flow was ended", a)
	}
	return answer.Errorf(answer.Unreachable, "target %s: connecting failed", a)
}

func isAny(err error, list []syscall.Errno) bool {
	for _, e := range list {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
