package appstest

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http/httptest"
	"net/url"
	"strings"
	"text/tabwriter"

	"ztm/apps"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
)

// Console is the command line at an endpoint of a [Net]. Its fields are set before use.
type Console struct {
	Host *Host // where the command runs
	At   *Host // the endpoint that the `ep` prefix chose; nil is Host
	JSON bool  // Print writes JSON instead of the table

	In       io.Reader // nil is empty
	Out, Err io.Writer // nil discards
}

var _ apps.Console = (*Console)(nil)

// Call implements [apps.Console].
func (c *Console) Call(ctx context.Context, method, path string, in, out any) error {
	at := c.At
	if at == nil {
		at = c.Host
	}
	return c.CallAt(ctx, at.Self().ID, method, path, in, out)
}

// CallAt implements [apps.Console]. Like the mesh, it lets an endpoint's own user manage it, and
// nobody else.
func (c *Console) CallAt(ctx context.Context, id identity.ID, method, path string, in, out any) error {
	name, rest, _ := strings.Cut(path, "/")
	h := c.Host.net.find(id)
	if h == nil {
		return answer.Errorf(answer.Unavailable, "endpoint %s is offline", id)
	}
	c.Host.net.mu.Lock()
	app, owner := h.apps[name], h.self.User
	c.Host.net.mu.Unlock()
	switch {
	case owner != c.Host.Self().User:
		return answer.Errorf(answer.Denied, "endpoint %s belongs to user %s", h.self.Name, owner)
	case app == nil:
		return answer.Errorf(answer.NotFound, "endpoint %s has no app %q", h.self.Name, name)
	}
	return call(ctx, app, method, "/"+rest, in, out)
}

// API sends a request to the API of an app at this endpoint, as its own user, and decodes the
// answer into out. in and out may be nil; a string is the body as it is. A failure is an
// *[answer.Error].
func (h *Host) API(method, path string, in, out any) error {
	name, rest, _ := strings.Cut(path, "/")
	h.net.mu.Lock()
	app := h.apps[name]
	h.net.mu.Unlock()
	return call(context.Background(), app, method, "/"+rest, in, out)
}

func call(ctx context.Context, app apps.App, method, path string, in, out any) error {
	var body bytes.Buffer
	if text, ok := in.(string); ok {
		body.WriteString(text)
	} else if in != nil {
		if err := json.NewEncoder(&body).Encode(in); err != nil {
			return err
		}
	}
	w := httptest.NewRecorder()
	app.API().ServeHTTP(w, httptest.NewRequestWithContext(ctx, method, path, &body))
	if w.Code/100 != 2 {
		e := answer.Parse(w.Code, w.Body.Bytes())
		if e.Status() != w.Code {
			return answer.Errorf(answer.Internal, "the app answered %d %s", w.Code, w.Body)
		}
		return e
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(w.Body.Bytes(), out)
}

// find returns the endpoint that is online under an ID, or nil.
func (n *Net) find(id identity.ID) *Host {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, h := range n.endpoints {
		if h.self.ID == id && h.self.Online {
			return h
		}
	}
	return nil
}

// Open implements [apps.Console].
func (c *Console) Open(ctx context.Context, id identity.ID, path string, q url.Values) (net.Conn, error) {
	return c.Host.Open(ctx, id, path, q)
}

// OpenDatagrams implements [apps.Console].
func (c *Console) OpenDatagrams(ctx context.Context, id identity.ID, path string, q url.Values) (net.Conn, error) {
	return c.Host.OpenDatagrams(ctx, id, path, q)
}

// Endpoint implements [apps.Console].
func (c *Console) Endpoint(context.Context) (apps.Endpoint, error) {
	if c.At == nil {
		return c.Host.Self(), nil
	}
	e := c.At.Self()
	e.Local = c.At == c.Host
	return e, nil
}

// Chosen implements [apps.Console].
func (c *Console) Chosen() bool { return c.At != nil }

// Trusted implements [apps.Console]. Every endpoint is trusted.
func (c *Console) Trusted(ctx context.Context, name string) (apps.Endpoint, error) {
	if name == "" {
		return c.Endpoint(ctx)
	}
	return c.Resolve(ctx, name)
}

// TrustedUser implements [apps.Console]. Every user is trusted.
func (c *Console) TrustedUser(ctx context.Context, name, offer, user string) (string, error) {
	list, err := c.Endpoints(ctx, apps.Filter{Offer: offer, User: user})
	if err == nil && len(list) == 0 {
		err = answer.Errorf(answer.NotFound, "nobody offers %q", name)
	}
	if err != nil {
		return "", err
	}
	return list[0].User, nil
}

// CheckUsers implements [apps.Console]. It checks how names are written, not whose they are.
func (c *Console) CheckUsers(_ context.Context, names []string) error {
	if err := apps.CheckWho(names); err != nil {
		return &apps.UsageError{Err: err}
	}
	return nil
}

// Resolve implements [apps.Console].
func (c *Console) Resolve(ctx context.Context, name string) (apps.Endpoint, error) {
	all, err := c.Host.Endpoints(ctx, apps.Filter{})
	for _, e := range all {
		if string(e.ID) == name || e.Name == name || e.Local && (name == "" || name == ".") {
			return e, nil
		}
	}
	if err == nil {
		err = answer.Errorf(answer.NotFound, "endpoint %q not found", name)
	}
	return apps.Endpoint{}, err
}

// Endpoints implements [apps.Console].
func (c *Console) Endpoints(ctx context.Context, f apps.Filter) ([]apps.Endpoint, error) {
	return c.Host.Endpoints(ctx, f)
}

// Print implements [apps.Console].
func (c *Console) Print(v any, t *apps.Table) error {
	if c.JSON {
		return json.NewEncoder(c.Stdout()).Encode(v)
	}
	if t == nil {
		return nil
	}
	w := tabwriter.NewWriter(c.Stdout(), 0, 0, 2, ' ', 0)
	for _, row := range append([][]string{t.Header}, t.Rows...) {
		if len(row) > 0 {
			io.WriteString(w, strings.Join(row[:len(row)-t.Wide], "\t")+"\n")
		}
	}
	return w.Flush()
}

// Export implements [apps.Console]: it writes JSON.
func (c *Console) Export(v any) error { return json.NewEncoder(c.Stdout()).Encode(v) }

// Stdin implements [apps.Console].
func (c *Console) Stdin() io.Reader {
	if c.In == nil {
		return strings.NewReader("")
	}
	return c.In
}

// Stdout implements [apps.Console].
func (c *Console) Stdout() io.Writer {
	if c.Out == nil {
		return io.Discard
	}
	return c.Out
}

// Stderr implements [apps.Console].
func (c *Console) Stderr() io.Writer {
	if c.Err == nil {
		return io.Discard
	}
	return c.Err
}

// SetLabels sets the labels of the endpoint.
func (h *Host) SetLabels(labels ...string) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	h.self.Labels = labels
}
