package exit

import (
	"context"
	"net"
	"time"

	"ztm/apps/reach"
	"ztm/apps/tunnel/spec"
)

const (
	// dialTimeout is how long an exit tries its targets for one flow, all of them together.
	dialTimeout = reach.Timeout
	// dialShare is the least time that one of several targets gets.
	dialShare = 2 * time.Second
)

// dialAny connects to the first of the addresses that answers, and returns which one that was. Each
// address has its share of [dialTimeout]. It calls failed for those that did not answer. The error
// is the last one's.
func dialAny(ctx context.Context, transport string, list []spec.Address, failed func(spec.Address, error)) (net.Conn, spec.Address, error) {
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
	return nil, spec.Address{}, err
}

// dialTarget connects to one address. A host with several addresses is tried as RFC 8305 says. The
// error is an *answer.Error that names the address.
func dialTarget(ctx context.Context, transport string, a spec.Address, timeout time.Duration) (c net.Conn, err error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if a.Path != "" {
		c, err = new(net.Dialer).DialContext(ctx, "unix", a.Path)
	} else {
		c, err = reach.Dialer{}.Host(ctx, transport, a.Host, a.First)
	}
	if err != nil {
		return nil, reach.Explain("target "+a.String(), err)
	}
	return c, nil
}
