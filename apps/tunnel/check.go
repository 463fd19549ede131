package tunnel

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"ztm/apps/listen"
	"ztm/tunnel/answer"
)

const (
	checkEvery   = 5 * time.Second
	checkTimeout = 3 * time.Second

	// maxChecked bounds the ports that one outbound checks, each with a connection every [checkEvery].
	maxChecked = 128
)

// Check is how an outbound finds out, all the time, whether its targets are up: "tcp" connects to them, "http:/path"
// also asks for a page and wants a status from 200 to 399. Of a range, each port is checked on its own. The empty value
// means that it learns from the flows alone.
type Check string

const httpCheck = "http:"

// Validate returns an error if the check is none of those.
func (c Check) Validate() error {
	if c == "" || c == TCP {
		return nil
	}
	path, ok := strings.CutPrefix(string(c), httpCheck)
	if !ok || !strings.HasPrefix(path, "/") {
		return fmt.Errorf("%q is not tcp or http:/PATH", string(c))
	}
	if _, err := url.ParseRequestURI(path); err != nil {
		return fmt.Errorf("%q: %q is not a path", string(c), path)
	}
	return nil
}

// watch begins the checks of the present configuration, and ends those of the last one. The caller holds App.editing.
func (o *outbound) watch() {
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
func (o *outbound) watchTarget(ctx context.Context, config *Outbound, a Address) {
	name := a.String()
	for {
		err := config.check(ctx, a)
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
		listen.Wait(ctx, checkEvery/2+rand.N(checkEvery), nil)
	}
}

// check checks a target once.
func (o *Outbound) check(ctx context.Context, a Address) error {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	if path, ok := strings.CutPrefix(string(o.Check), httpCheck); ok {
		return o.checkHTTP(ctx, a, path)
	}
	c, err := o.dialCheck(ctx, a)
	if err == nil {
		c.Close()
	}
	return err
}

// dialCheck connects to a target as a flow would.
func (o *Outbound) dialCheck(ctx context.Context, a Address) (net.Conn, error) {
	c, err := dialTarget(ctx, TCP, a, checkTimeout)
	if err != nil {
		return nil, err
	}
	if err := o.introduce(ctx, c, proxyHeader{}); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (o *Outbound) checkHTTP(ctx context.Context, a Address, path string) error {
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
		DialContext:        func(ctx context.Context, _, _ string) (net.Conn, error) { return o.dialCheck(ctx, a) },
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
