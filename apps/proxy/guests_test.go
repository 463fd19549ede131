package proxy

import (
	"context"
	"io"
	"net"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"ztm/apps"
	"ztm/apps/appstest"
	"ztm/apps/proxy/dns/dnstest"
	"ztm/apps/proxy/policy"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
)

func TestNamesOfUsersAreThoseThatAUserCanHave(t *testing.T) {
	var n appstest.Net
	e := join(t, &n, "out", "alice", Options{})
	for _, name := range []string{"label:grp", "group:x", "@grp", "no such user", "**", ""} {
		for what, err := range map[string]error{
			"a new rule": e.call("POST", "/rules", policy.Rule{Users: []string{name}, Action: "deny"}, nil),
			"trust":      e.call("PATCH", "/config", Change{Trust: []string{name}}, nil),
		} {
			if answer.CodeOf(err) != answer.BadRequest {
				t.Errorf("%s for %q: %v", what, name, err)
			}
		}
	}
	e.allow(t, "bob@example.com", "*")
	if err := e.call("PUT", "/rules/0", policy.Rule{Users: []string{"group:"}}, nil); answer.CodeOf(err) != answer.BadRequest {
		t.Errorf("a changed rule: %v", err)
	}
	e.change(t, Change{Trust: []string{"bob@example.com", "*"}})

	// What an older version has saved can be taken away.
	if err := e.app.change(nil, func(c *Config) error { c.Trust = []string{"group:x"}; return nil }); err != nil {
		t.Fatal(err)
	}
	if v := e.change(t, Change{Distrust: []string{"group:x"}}); len(v.Trust) > 0 {
		t.Errorf("trust is %q", v.Trust)
	}
}

func TestAPatternIsToldOnce(t *testing.T) {
	var n appstest.Net
	in := join(t, &n, "in", "bob", Options{})
	for _, name := range []string{"out1", "out2"} {
		out := join(t, &n, name, "alice", Options{})
		out.change(t, Change{AddTargets: []string{"*.svc.cluster.local", "10.43.0.0/16", "127.0.0.0/8"}})
		out.allow(t, "bob", "*.svc.cluster.local")
	}
	in.change(t, Change{Trust: []string{"alice"}})
	var st Status
	if err := in.call("GET", "/status", nil, &st); err != nil {
		t.Fatal(err)
	}
	for _, e := range st.Exits {
		if got := strings.Join(e.Targets, " "); got != "*.svc.cluster.local" {
			t.Errorf("%s serves %s", e.Name, got)
		}
	}
	script, err := in.app.router.PAC(t.Context(), "127.0.0.1:1080")
	if err != nil || strings.Count(string(script), ".svc.cluster.local") != 1 {
		t.Errorf("%v in %.300s", err, script)
	}
}

// counted is a mesh that counts what it is asked.
type counted struct {
	apps.Mesh
	opened, listed atomic.Int64
}

func (c *counted) Open(ctx context.Context, to identity.ID, path string, q url.Values) (net.Conn, error) {
	c.opened.Add(1)
	return c.Mesh.Open(ctx, to, path, q)
}

func (c *counted) Endpoints(ctx context.Context, f apps.Filter) ([]apps.Endpoint, error) {
	c.listed.Add(1)
	return c.Mesh.Endpoints(ctx, f)
}

// A client in a loop must not use up what the hub allows this endpoint.
func TestAClientInALoopDoesNotKeepTheMeshBusy(t *testing.T) {
	var n appstest.Net
	mesh := &counted{}
	in := &endpoint{Host: n.Join("in", "alice")}
	app, _ := in.Start(t, "proxy", func(h apps.Host) apps.App {
		mesh.Mesh, h.Mesh = h.Mesh, mesh
		return NewWith(h, Options{Resolver: dnstest.Names{}, ResolvConf: os.DevNull})
	})
	in.app = app.(*App)
	out := join(t, &n, "out", "alice", Options{Resolver: names("a.example.net"), Dial: dialTo(map[string]string{"10.1.1.1:80": echo(t)})})
	out.change(t, Change{AddTargets: []string{"*.example.net"}})
	in.change(t, Change{Via: map[string]string{"a.example.net": "out"}})
	address := in.listen(t)
	out.SetOnline(false)
	const loop = 300
	for name, most := range map[string]int64{"a.example.net": loop / 3, "b.example.org": loop / 3} {
		before := mesh.opened.Load() + mesh.listed.Load()
		for range loop {
			c := dialTCP(t, address)
			io.WriteString(c, "\x04\x01\x00\x50\x00\x00\x00\x01\x00"+name+"\x00")
			if b, err := io.ReadAll(c); err != nil || len(b) != 8 || b[1] != rejected {
				t.Fatalf("%s: %x, %v", name, b, err)
			}
			c.Close()
		}
		if asked := mesh.opened.Load() + mesh.listed.Load() - before; asked > most {
			t.Errorf("%s: the mesh was asked %d times for %d connections", name, asked, loop)
		}
	}
	out.SetOnline(true)
	appstest.Eventually(t, "the exit to be used again", func() bool {
		c := dialTCP(t, address)
		defer c.Close()
		io.WriteString(c, "\x04\x01\x00\x50\x00\x00\x00\x01\x00a.example.net\x00")
		b := make([]byte, 8)
		_, err := io.ReadFull(c, b)
		return err == nil && b[1] == granted
	})
}

func TestWhoHasLeftKeepsNothingHere(t *testing.T) {
	in, out := pair(t, Options{Resolver: names("a.example.com"), Dial: dialTo(map[string]string{"10.1.1.1:80": echo(t)})}, "*.example.com")
	address := in.listen(t)
	connect := func() net.Conn {
		c := dialTCP(t, address)
		io.WriteString(c, "\x04\x01\x00\x50\x00\x00\x00\x01\x00a.example.com\x00")
		b := make([]byte, 8)
		if _, err := io.ReadFull(c, b); err != nil || b[1] != granted {
			t.Fatalf("%x, %v", b, err)
		}
		return c
	}
	c := connect()
	out.app.Left(func(p apps.Peer) bool { return p.User == "alice" && p.ID != in.app.host.Mesh.Self().ID })
	io.WriteString(c, "x")
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Errorf("a flow of a peer that stays has ended: %v", err)
	}
	out.app.Left(func(p apps.Peer) bool { return p.ID == in.app.host.Mesh.Self().ID })
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("the flow of a peer that has left goes on")
	}
	appstest.Eventually(t, "the flow to end", func() bool { return out.app.exit.Running() == 0 })
}
