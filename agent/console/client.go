// The way of a request:
//
//	1. api.Dial      a connection to the agent, for this request alone
//	2. exchange      request out, head of the answer in
//	3. Do            JSON of the answer, or its answer.Error
//	   open          ... or, after 101, the connection itself: a flow

package console

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"

	"ztm/agent/api"
	"ztm/apps"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	"ztm/tunnel/shellwords"
)

// maxAnswer is the most of an answer that is read, in bytes: room for 100,000 endpoints, and an end
// for an agent that forwards without one what another endpoint sends.
const maxAnswer = 64_000_000

// Call sends a request to the API of an app at the chosen endpoint.
func (c *Console) Call(ctx context.Context, method, path string, in, out any) error {
	ep, err := c.Endpoint(ctx)
	if err != nil {
		return err
	}
	return c.CallAt(ctx, ep.ID, method, path, in, out)
}

// CallAt sends a request to the API of an app at a given endpoint.
func (c *Console) CallAt(ctx context.Context, ep identity.ID, method, path string, in, out any) error {
	m, err := c.Mesh(ctx)
	if err != nil {
		return err
	}
	return c.Do(ctx, method, api.AppPath(m.Name, ep, path), in, out)
}

// Open opens a flow from the agent to the path of an app at an endpoint.
func (c *Console) Open(ctx context.Context, ep identity.ID, path string, query url.Values) (net.Conn, error) {
	conn, err := c.open(ctx, ep, path, query, api.UpgradeFlow)
	if err != nil {
		return nil, err
	}
	return api.Stream(conn), nil
}

// OpenDatagrams opens a flow of datagrams from the agent to the path of an app at an endpoint.
func (c *Console) OpenDatagrams(ctx context.Context, ep identity.ID, path string, query url.Values) (net.Conn, error) {
	conn, err := c.open(ctx, ep, path, query, api.UpgradeDatagrams)
	if err != nil {
		return nil, err
	}
	return api.Datagrams(conn), nil
}

// Do sends a request to the agent and decodes the JSON answer into out. in and out may be nil. What
// the agent refuses is an [*answer.Error].
func (c *Console) Do(ctx context.Context, method, path string, in, out any) error {
	body, err := c.request(ctx, method, path, in)
	if err != nil || out == nil {
		return err
	}
	if err := json.Unmarshal(body, out); err != nil {
		return fmt.Errorf("answer of the agent: %v", err)
	}
	return nil
}

// Fetch returns the answer to a GET as it is.
func (c *Console) Fetch(ctx context.Context, path string) ([]byte, error) {
	return c.request(ctx, http.MethodGet, path, nil)
}

func (c *Console) request(ctx context.Context, method, path string, in any) ([]byte, error) {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("request to the agent: %v", err)
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://localhost"+path, body)
	if err != nil {
		return nil, fmt.Errorf("request to the agent: %v", err)
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Close = true
	conn, resp, err := c.exchange(req)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	c.pass(resp.Header.Values(api.WarningHeader))
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		return nil, fmt.Errorf("answer of the agent: %v", err)
	case len(b) > maxAnswer:
		return nil, fmt.Errorf("answer of the agent is longer than %d MB", maxAnswer/1_000_000)
	}
	return b, nil
}

func (c *Console) open(ctx context.Context, ep identity.ID, path string, query url.Values, protocol string) (net.Conn, error) {
	m, err := c.Mesh(ctx)
	if err != nil {
		return nil, err
	}
	url := "http://localhost" + api.FlowPath(m.Name, ep, path, query)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, nil)
	if err != nil {
		return nil, fmt.Errorf("request to the agent: %v", err)
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", protocol)
	conn, resp, err := c.exchange(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusSwitchingProtocols || !strings.EqualFold(resp.Header.Get("Upgrade"), protocol) {
		conn.Close()
		return nil, fmt.Errorf("the agent answered %q instead of a flow", resp.Status)
	}
	return conn, nil
}

// exchange sends a request on a connection of its own and reads the head of the answer. An answer
// that is a failure is returned as an error. The caller closes the connection; the request's
// context governs the exchange alone.
func (c *Console) exchange(req *http.Request) (*flow, *http.Response, error) {
	ctx := req.Context()
	if c.homeless != nil {
		return nil, nil, c.homeless
	}
	raw, token, err := api.Dial(ctx, c.data)
	if err != nil {
		return nil, nil, c.unreachable(ctx, err)
	}
	conn := &flow{Conn: raw, in: bufio.NewReader(raw)}
	stop := context.AfterFunc(ctx, func() { raw.SetDeadline(time.Unix(1, 0)) })
	resp, err := conn.exchange(req, token)
	if !stop() { // too late, or soon to be: the connection is spoiled
		err = ctx.Err()
	}
	if err != nil {
		conn.Close()
		return nil, nil, err
	}
	return conn, resp, nil
}

// unreachable says why the agent cannot be reached.
func (c *Console) unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	h := &apps.HintError{Hint: "start it with: ztm run agent --data " + shellwords.Here(c.data)}
	where := api.Location(c.data)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		h.Err = fmt.Errorf("cannot reach the agent at %s: is it running?", where)
	case errors.Is(err, fs.ErrPermission):
		h.Err = fmt.Errorf("cannot reach the agent at %s: permission denied", where)
		h.Hint = "only the user who runs the agent may use it"
	default:
		h.Err = fmt.Errorf("cannot reach the agent at %s: %w", where, err)
	}
	return h
}

// failure reads the answer.Error of an answer.
func failure(resp *http.Response) error {
	const maxFailure = 64 << 10 // bytes; a message is a sentence
	b, err := answer.Limited(resp.Body, maxFailure)
	if err != nil {
		return answer.Errorf(answer.Broken, "the agent answered %q: %v", resp.Status, err)
	}
	return answer.Parse(resp.StatusCode, b)
}

// flow is a connection to the agent, of which the answer's head has been read.
type flow struct {
	net.Conn
	in *bufio.Reader // what came behind the head is in it
}

func (f *flow) exchange(req *http.Request, token string) (*http.Response, error) {
	req.Header.Set("User-Agent", "ztm")
	req.Header.Set(api.ClientHeader, "1")
	if token != "" {
		req.Header.Set(api.TokenHeader, token)
	}
	unsent := req.Write(f.Conn)
	resp, err := http.ReadResponse(f.in, req) // an agent that refuses does not wait for the whole request
	switch {
	case err != nil && unsent != nil:
		return nil, fmt.Errorf("request to the agent: %w", unsent)
	case err != nil:
		return nil, fmt.Errorf("answer of the agent: %w", err)
	}
	if resp.StatusCode/100 != 2 && resp.StatusCode != http.StatusSwitchingProtocols {
		return nil, failure(resp)
	}
	return resp, nil
}

func (f *flow) Read(p []byte) (int, error) { return f.in.Read(p) }

// WritesTo returns where writes go.
func (f *flow) WritesTo() net.Conn { return f.Conn }
