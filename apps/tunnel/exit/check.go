package exit

import (
	"context"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"time"

	"ztm/apps/tunnel/proxyproto"
	"ztm/apps/tunnel/spec"
	"ztm/tunnel/answer"
	"ztm/tunnel/pause"
)

const (
	checkEvery   = 5 * time.Second
	checkTimeout = 3 * time.Second
)

// Watch begins the checks of the present configuration, and ends those of the last one. The caller
// holds App.editing.
func (o *Outbound) Watch() {
	if o.unwatch != nil {
		o.unwatch()
		o.unwatch = nil
	}
	config := o.config.Load()
	if config.Check == "" {
		o.pool.Unchecked()
		return
	}
	o.unwatch, _ = o.group.Go(func(ctx context.Context) {
		var targets sync.WaitGroup
		for _, a := range config.Targets {
			for i := range a.Size() {
				targets.Go(func() { o.watchTarget(ctx, config, a.At(i)) })
			}
		}
		targets.Wait()
	})
}

// watchTarget checks one target, or one port of a target that is a range, until ctx ends.
func (o *Outbound) watchTarget(ctx context.Context, config *spec.Outbound, a spec.Address) {
	name := a.String()
	for {
		err := checkTarget(ctx, config, a)
		if ctx.Err() != nil {
			return
		}
		if o.pool.Checked(name, err) {
			if err != nil {
				o.log.Warn("target is down", "target", name, "err", err)
			} else {
				o.log.Info("target is up", "target", name)
			}
		}
		pause.For(ctx, checkEvery/2+rand.N(checkEvery))
	}
}

// checkTarget checks a target once.
func checkTarget(ctx context.Context, o *spec.Outbound, a spec.Address) error {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	if path, ok := o.Check.HTTPPath(); ok {
		return checkHTTP(ctx, o, a, path)
	}
	c, err := dialCheck(ctx, o, a)
	if err == nil {
		c.Close()
	}
	return err
}

// dialCheck connects to a target as a flow would.
func dialCheck(ctx context.Context, o *spec.Outbound, a spec.Address) (net.Conn, error) {
	c, err := dialTarget(ctx, spec.TCP, a, checkTimeout)
	if err != nil {
		return nil, err
	}
	if err := sendHeader(ctx, o.Proxy, c, proxyproto.Header{}); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func checkHTTP(ctx context.Context, o *spec.Outbound, a spec.Address, path string) error {
	host := a.String()
	if a.Path != "" {
		host = "localhost"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+host+path, nil)
	if err != nil {
		return answer.Errorf(answer.BadRequest, "check: %v", err)
	}
	transport := &http.Transport{
		DisableKeepAlives:  true,
		DisableCompression: true,
		DialContext:        func(ctx context.Context, _, _ string) (net.Conn, error) { return dialCheck(ctx, o, a) },
	}
	resp, err := transport.RoundTrip(req) // which follows no redirections
	if err != nil {
		return answer.Errorf(answer.Unreachable, "target %s does not answer the check: %v", a, err)
	}
	resp.Body.Close()
	if resp.StatusCode < 200 || resp.StatusCode > 399 {
		return answer.Errorf(answer.Unreachable, "target %s answers the check with status %d", a, resp.StatusCode)
	}
	return nil
}
