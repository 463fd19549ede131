package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"

	"ztm/agent/api"
	"ztm/tunnel/identity"
)

// agent is one of the agents, asked at its local API: a command line in a process of its own for each
// of some ten thousand operations would measure the machine.
type agent struct {
	data, mesh string
	id         identity.ID
	client     *http.Client
}

// reach finds out which endpoint the agent of a data directory is.
func reach(ctx context.Context, data, mesh string) (*agent, error) {
	a := &agent{data: data, mesh: mesh, client: &http.Client{Transport: door{data}}}
	var all []api.Mesh
	if err := a.do(ctx, http.MethodGet, api.MeshesPath, nil, &all); err != nil {
		return nil, err
	}
	if len(all) != 1 {
		return nil, fmt.Errorf("the agent of %s is in %d meshes", data, len(all))
	}
	a.id = all[0].Agent.ID
	return a, nil
}

// door sends each request to the agent of a data directory, on a connection of its own.
type door struct{ data string }

func (d door) RoundTrip(r *http.Request) (*http.Response, error) {
	conn, resp, err := d.exchange(r)
	if err != nil {
		return nil, err
	}
	resp.Body = body{resp.Body, conn}
	return resp, nil
}

// body closes the connection with the answer.
type body struct {
	io.ReadCloser
	conn net.Conn
}

func (b body) Close() error { return b.conn.Close() }

// buffered is a connection of which some bytes have been read.
type buffered struct {
	net.Conn
	in *bufio.Reader
}

func (b buffered) Read(p []byte) (int, error) { return b.in.Read(p) }

func (d door) exchange(r *http.Request) (net.Conn, *http.Response, error) {
	c, token, err := api.Dial(r.Context(), d.data)
	if err != nil {
		return nil, nil, err
	}
	if deadline, ok := r.Context().Deadline(); ok {
		c.SetDeadline(deadline)
	}
	r = r.Clone(r.Context())
	r.Header.Set(api.ClientHeader, "1")
	r.Header.Set(api.TokenHeader, token)
	conn := buffered{c, bufio.NewReader(c)}
	var resp *http.Response
	if err = r.Write(c); err == nil {
		resp, err = http.ReadResponse(conn.in, r)
	}
	if err != nil {
		c.Close()
	}
	return conn, resp, err
}

// do sends a request and reads the answer into out. in and out may be nil.
func (a *agent) do(ctx context.Context, method, path string, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var content io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		content = bytes.NewReader(b)
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://localhost"+path, content)
	if err != nil {
		return err
	}
	resp, err := a.client.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode/100 != 2 {
		err = fmt.Errorf("%s %s: %s %s", method, path, resp.Status, bytes.TrimSpace(b))
	}
	if err == nil && out != nil {
		err = json.Unmarshal(b, out)
	}
	return err
}

// app sends a request to an app of the agent.
func (a *agent) app(ctx context.Context, method, path string, in any) error {
	return a.do(ctx, method, api.AppPath(a.mesh, a.id, path), in, nil)
}

// open opens a flow from the agent to an app of another. All that is done with it ends within the timeout.
func (a *agent) open(ctx context.Context, to identity.ID, path string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://localhost"+api.FlowPath(a.mesh, to, path, url.Values{}), nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Connection", "Upgrade")
	r.Header.Set("Upgrade", api.UpgradeFlow)
	c, resp, err := door{a.data}.exchange(r)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		b, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
		c.Close()
		return nil, fmt.Errorf("%s: %s %s", path, resp.Status, bytes.TrimSpace(b))
	}
	return api.Stream(c), nil
}
