package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"ztm/agent/api"
	"ztm/apps/process"
	scripts "ztm/scripts/process"
)

// deed is one thing that people and programs do again and again, and that is undone each time. n tells
// one from another: names are never used twice, so that what is kept of each name is seen to grow.
type deed struct {
	name  string
	every time.Duration // at most so often: a hub limits what an endpoint asks and changes, and who joins
	kept  bool          // something is known of it for some time
	do    func(ctx context.Context, n int64) error

	done, failed atomic.Int64
	first        atomic.Pointer[error] // of those that failed
}

// repeat does it until ctx ends.
func (d *deed) repeat(ctx context.Context, numbers *atomic.Int64) {
	for ctx.Err() == nil {
		next := time.After(d.every)
		err := d.do(context.WithoutCancel(ctx), numbers.Add(1))
		if err != nil {
			d.failed.Add(1)
			d.first.CompareAndSwap(nil, &err)
		} else {
			d.done.Add(1)
		}
		select {
		case <-next:
		case <-ctx.Done():
		}
	}
}

// deeds lists all.
func (l *life) deeds() []*deed {
	return []*deed{
		{name: "flow of TCP", every: 15 * time.Millisecond, do: func(context.Context, int64) error { _, err := (&newcomers{mesh: l.mesh}).tcp(); return err }},
		{name: "flow of UDP", every: 30 * time.Millisecond, do: func(context.Context, int64) error { _, err := (&newcomers{mesh: l.mesh}).udp(); return err }},
		{name: "tunnel added, used and deleted", every: 2500 * time.Millisecond, do: l.tunnel},
		{name: "app started, asked and stopped", do: l.app},
		{name: "file published, fetched and erased", every: 250 * time.Millisecond, kept: true, do: l.file},
		{name: "group made and deleted", every: 500 * time.Millisecond, do: l.group},
		{name: "policy applied and taken back", every: 500 * time.Millisecond, do: l.policy},
		{name: "endpoint joins and leaves", every: 3 * time.Second, kept: true, do: l.member},
		{name: "new device joins and leaves", every: 2 * time.Second, kept: true, do: l.device},
		{name: "terminal opened and closed", every: 20 * time.Millisecond, do: l.terminal},
		{name: "ping", every: 20 * time.Millisecond, do: func(ctx context.Context, _ int64) error {
			return l.root.do(ctx, http.MethodGet, api.EndpointPath(l.root.mesh, l.exit.id, "ping"), nil, nil)
		}},
	}
}

func (l *life) tunnel(ctx context.Context, n int64) error {
	key, address := fmt.Sprintf("tcp/life-%d", n), l.port
	if err := l.exit.app(ctx, http.MethodPost, "tunnel/outbound/"+key, map[string]any{"targets": []string{l.targetAddresses[0]}}); err != nil {
		return err
	}
	err := l.root.app(ctx, http.MethodPost, "tunnel/inbound/"+key, map[string]any{"listens": []string{address}})
	if err == nil {
		_, err = (&newcomers{mesh: &mesh{tcp: address}}).tcp()
		err = errors.Join(err, l.root.app(ctx, http.MethodDelete, "tunnel/inbound/"+key, nil))
	}
	return errors.Join(err, l.exit.app(ctx, http.MethodDelete, "tunnel/outbound/"+key, nil))
}

func (l *life) app(ctx context.Context, _ int64) error {
	if err := l.exit.app(ctx, http.MethodPost, "app/apps/root/life/start", nil); err != nil {
		return err
	}
	return errors.Join(l.ask(ctx), l.exit.app(ctx, http.MethodPost, "app/apps/root/life/stop", nil))
}

// ask sends a request to the app, through the mesh.
func (l *life) ask(ctx context.Context) error {
	c, err := l.root.open(ctx, l.exit.id, "app/http/root/life")
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: ztm\r\nConnection: close\r\n\r\n"); err != nil {
		return err
	}
	b, err := io.ReadAll(io.LimitReader(c, 1<<10))
	if err == nil && !strings.Contains(string(b), " 200 ") {
		err = fmt.Errorf("the app answers %q", b)
	}
	return err
}

func (l *life) file(ctx context.Context, n int64) error {
	name := fmt.Sprintf("/users/root/life/file-%d", n)
	local := filepath.Join(l.cloud("entrance"), name)
	if err := os.MkdirAll(filepath.Dir(local), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(local, bytesOf(source(uint64(n), false), 100_000), 0o600); err != nil {
		return err
	}
	in := map[string]any{"path": name, "force": true}
	err := l.root.app(ctx, http.MethodPost, "cloud/publish", in)
	if err == nil {
		err = l.fetch(ctx, name)
	}
	err = errors.Join(err, l.root.app(ctx, http.MethodPost, "cloud/erase", in), l.exit.app(ctx, http.MethodPost, "cloud/erase", in))
	os.Remove(local)
	os.Remove(filepath.Join(l.cloud("exit"), name))
	return err
}

// fetch downloads a file at the exit.
func (l *life) fetch(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var d struct {
		ID    string
		Ended bool
		Done  int
	}
	path := api.AppPath(l.exit.mesh, l.exit.id, "cloud/downloads")
	err := l.exit.do(ctx, http.MethodPost, path, map[string]any{"path": name}, &d)
	for err == nil && !d.Ended {
		err = l.exit.do(ctx, http.MethodGet, path+"/"+d.ID+"?wait=1", nil, &d)
	}
	if err == nil && d.Done != 1 {
		err = fmt.Errorf("%s was not fetched", name)
	}
	return err
}

func (l *life) group(ctx context.Context, n int64) error {
	path := api.PolicyPath(l.root.mesh, l.root.id, "groups", fmt.Sprintf("group-%d", n))
	if err := l.root.do(ctx, http.MethodPost, path, map[string]any{"add": []string{"guest"}}, nil); err != nil {
		return err
	}
	return l.root.do(ctx, http.MethodPost, path, map[string]any{"delete": true}, nil)
}

// policy applies a grant, and takes it back. Somebody else may have changed the policy meanwhile: then
// it is done again.
func (l *life) policy(ctx context.Context, n int64) error {
	grant := map[string]any{"name": fmt.Sprintf("grant-%d", n), "who": []any{map[string]any{"name": "guest", "added": time.Now().UTC().Format(time.RFC3339)}}, "to": []string{"terminal"}, "at": []string{"*"}, "from": []string{"*"}}
	for _, grants := range [][]any{{grant}, {}} {
		if err := l.apply(ctx, grants); err != nil {
			return err
		}
	}
	return nil
}

func (l *life) apply(ctx context.Context, grants []any) (err error) {
	path := api.PolicyPath(l.root.mesh, l.root.id, "source")
	for range 20 {
		var now struct {
			Version uint64         `json:"version"`
			Source  map[string]any `json:"source"`
		}
		if err = l.root.do(ctx, http.MethodGet, path, nil, &now); err != nil {
			return err
		}
		now.Source["users"], now.Source["grants"], now.Source["mode"] = map[string]any{"guest": struct{}{}}, grants, "observe"
		if err = l.root.do(ctx, http.MethodPut, path, now, nil); err == nil || !strings.Contains(err.Error(), " 409 ") {
			return err
		}
	}
	return err
}

// permit is a permit for a user, good once.
func (l *life) permit(ctx context.Context, user string, ephemeral bool) (permit json.RawMessage, err error) {
	in := map[string]any{"expires": 600_000, "ephemeral": ephemeral}
	return permit, l.root.do(ctx, http.MethodPost, api.PermitPath(l.root.mesh, user), in, &permit)
}

// member has the third agent join and leave.
func (l *life) member(ctx context.Context, n int64) error {
	permit, err := l.permit(ctx, "guest", n%2 == 0)
	if err != nil {
		return err
	}
	name := fmt.Sprintf("guest-%d", n)
	return joinAndLeave(ctx, l.guest, l.root.mesh, name, permit)
}

func joinAndLeave(ctx context.Context, a *agent, mesh, name string, permit json.RawMessage) error {
	if err := a.do(ctx, http.MethodPost, api.MeshPath(mesh), api.Join{Name: name, Permit: permit}, nil); err != nil {
		return err
	}
	return a.do(ctx, http.MethodDelete, api.MeshPath(mesh), nil, nil)
}

// device has an agent with a key of its own join and leave.
func (l *life) device(ctx context.Context, n int64) error {
	permit, err := l.permit(ctx, "guest", n%2 == 0)
	if err != nil {
		return err
	}
	name := fmt.Sprintf("device-%d", n)
	g := scripts.Group{Dir: l.Dir}
	data := filepath.Join(l.Dir, name)
	defer os.RemoveAll(data)
	defer os.Remove(filepath.Join(l.Dir, name+".log"))
	defer g.End(timeout)
	if _, err := g.Start(name, l.ztm, "run", "agent", "--data", data); err != nil {
		return err
	}
	a := &agent{data: data, client: &http.Client{Transport: door{data}}}
	err = scripts.Until(ctx, name+" runs", timeout, func() error { return a.do(ctx, http.MethodGet, api.MeshesPath, nil, nil) })
	if err != nil {
		return err
	}
	return joinAndLeave(ctx, a, l.root.mesh, name, permit)
}

// terminal runs a command on a terminal at the exit.
func (l *life) terminal(ctx context.Context, n int64) error {
	c, err := l.root.open(ctx, l.exit.id, "terminal/shell")
	if err != nil {
		return err
	}
	var out strings.Builder
	said := fmt.Sprint("terminal ", n)
	start := map[string]any{"command": []string{"echo", said}, "tty": process.Size{Cols: 80, Rows: 24}}
	if _, err := process.Drive(c, start, nil, process.Streams{Stdout: &out, Stderr: &out}); err != nil {
		return err
	}
	if !strings.Contains(out.String(), said) {
		return fmt.Errorf("the terminal says %q", out.String())
	}
	return nil
}
