package tunnel

import (
	"context"
	"errors"
	"net"
	"os"
	"syscall"
	"time"

	"ztm/apps"
)

const (
	// dialTimeout is how long an exit tries its targets for one flow, all of them together.
	dialTimeout = 10 * time.Second
	// dialShare is the least time that one of several targets gets.
	dialShare = 2 * time.Second
)

// keepAlive finds clients and targets that are gone without a word within about a minute.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 10 * time.Second, Count: 3}

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
// *apps.Error that names the address.
func dialTarget(ctx context.Context, transport string, a Address, timeout time.Duration) (net.Conn, error) {
	d := net.Dialer{Timeout: timeout, KeepAliveConfig: keepAlive}
	network, address := a.network(transport)
	c, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, dialError(a, err)
	}
	return c, nil
}

// dialError says what a failure to connect means. What the system says is not passed on as it is: it may name
// resolvers and addresses of the exit's network.
func dialError(a Address, err error) *apps.Error {
	var dns *net.DNSError
	var timeout net.Error
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		return apps.Errorf(apps.DNS, "target %s: no such host", a)
	case errors.As(err, &dns):
		return apps.Errorf(apps.DNS, "target %s: the name could not be resolved", a)
	case isAny(err, errsRefused):
		return apps.Errorf(apps.Refused, "target %s refused the connection", a)
	case isAny(err, errsUnreachable):
		return apps.Errorf(apps.Unreachable, "target %s is unreachable", a)
	case errors.Is(err, os.ErrNotExist):
		return apps.Errorf(apps.Refused, "target %s: no such socket", a)
	case errors.Is(err, os.ErrPermission):
		return apps.Errorf(apps.Refused, "target %s: the exit has no permission to connect to it", a)
	case errors.As(err, &timeout) && timeout.Timeout():
		return apps.Errorf(apps.Timeout, "target %s did not answer in time", a)
	case errors.Is(err, context.Canceled):
		return apps.Errorf(apps.Broken, "target %s: the flow was ended", a)
	}
	return apps.Errorf(apps.Unreachable, "target %s: connecting failed", a)
}

// listenError says what a failure to listen means, for the owner of the endpoint.
func listenError(a Address, err error) *apps.Error {
	switch {
	case isAny(err, errsInUse):
		return apps.Errorf(apps.Conflict, "listen %s: the address is in use by another program: stop it, or choose another port", a)
	case errors.Is(err, os.ErrPermission) && a.Path == "" && a.First < 1024:
		return apps.Errorf(apps.Denied, "listen %s: ports below 1024 need a privilege that this program does not have: "+
			"choose a higher port, or run it as root", a)
	case errors.Is(err, os.ErrPermission) && a.Path != "":
		return apps.Errorf(apps.Denied, "listen %s: this program may not make a socket there: choose another directory", a)
	case isAny(err, errsNoAddress):
		return apps.Errorf(apps.BadRequest, "listen %s: this machine does not have that address: choose one of its own, or * for all", a)
	}
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err // without the address, which is named already
	}
	return apps.Errorf(apps.BadRequest, "listen %s: %v", a, err)
}

func isAny(err error, list []syscall.Errno) bool {
	for _, e := range list {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
