package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"

	"ztm/apps"
	"ztm/apps/external"
	"ztm/apps/external/pages"
	"ztm/tunnel/loopback"
)

// An app is asked by a flow that carries one request of HTTP/1.1 and its answer. The agent there
// puts into it who asks.

// reach returns what opens flows to an app.
func (k *client) reach(ctx context.Context, name string) (func(context.Context) (net.Conn, error), error) {
	id, err := k.resolve(ctx, name)
	if err != nil {
		return nil, err
	}
	return k.opens(ctx, id)
}

// opens returns what opens flows to an app of the chosen endpoint.
func (k *client) opens(ctx context.Context, id string) (func(context.Context) (net.Conn, error), error) {
	ep, err := k.Trusted(ctx, "")
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) (net.Conn, error) { return k.Open(ctx, ep.ID, external.Name+"/http/"+id, nil) }, nil
}

// call sends one request and writes the answer.
func (k *client) call(ctx context.Context, name, method, path string, body io.Reader) error {
	u, err := url.ParseRequestURI("/" + strings.TrimPrefix(path, "/"))
	if err != nil {
		return apps.Usagef("the path: %v", err)
	}
	open, err := k.reach(ctx, name)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://ztm", body)
	if err != nil {
		return apps.Usagef("%v", err)
	}
	r.URL.Path, r.URL.RawPath, r.URL.RawQuery = u.Path, u.RawPath, u.RawQuery
	resp, err := pages.RoundTrip(open, r)
	if err != nil {
		return cmp.Or(ctx.Err(), err) // interrupted, which is no fault of the app
	}
	defer resp.Body.Close()
	out := watched(k.Stdout())
	if resp.StatusCode >= http.StatusBadRequest {
		fmt.Fprintf(k.Stderr(), "ztm: the app answers %s\n", apps.Printable(resp.Status))
		out = watched(k.Stderr())
	}
	if _, err := io.Copy(out, resp.Body); err != nil {
		return cmp.Or(ctx.Err(), err)
	}
	if resp.StatusCode >= http.StatusBadRequest {
		return &apps.ExitError{Status: 1}
	}
	return nil
}

// show serves the pages of an app to one browser, from an origin of their own; at an address of this
// machine, or if it is empty at one that nothing else has.
func (k *client) show(ctx context.Context, name, address string) error {
	open, err := k.reach(ctx, name)
	if err != nil {
		return err
	}
	if conn, err := open(ctx); err != nil { // better here than in the browser
		return err
	} else {
		conn.Close()
	}
	listen := loopback.ListenApart
	if address != "" {
		listen = func() (net.Listener, error) { return loopback.Listen(address) }
	}
	ln, err := listen()
	if err != nil {
		return err
	}
	p := pages.New(ln.Addr(), open, "/")
	fmt.Fprintf(k.Stderr(), "Open it in a browser of this machine; the address works once:\n")
	fmt.Fprintln(k.Stdout(), p.Address())
	return loopback.Serve(ctx, ln, p, slog.New(slog.DiscardHandler))
}
