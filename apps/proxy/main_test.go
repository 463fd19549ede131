package proxy

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"ztm/apps"
	"ztm/apps/appstest"
	"ztm/apps/proxy/dns/dnstest"
	"ztm/apps/proxy/policy"
)

func TestMain(m *testing.M) { os.Exit(appstest.Run(m)) }

// timeout is how long a test waits for what must happen.
const timeout = appstest.Timeout

// endpoint is one endpoint of a test mesh, with its proxy running.
type endpoint struct {
	*appstest.Host
	app *App
	log *appstest.Buffer
}

// join adds an endpoint to a mesh and runs its proxy until the end of the test. Without options, its names are those
// of dnstest.Names, and nothing else resolves. Changes are made to the app before it runs.
func join(t testing.TB, n *appstest.Net, name, user string, o Options, changes ...func(*App)) *endpoint {
	t.Helper()
	e := &endpoint{Host: n.Join(name, user), log: &appstest.Buffer{}}
	e.Host.Log = e.log
	if o.Resolver == nil {
		o.Resolver = dnstest.Names{}
	}
	if o.ResolvConf == "" {
		o.ResolvConf = os.DevNull
	}
	app, _ := e.Start(t, "proxy", func(h apps.Host) apps.App {
		app := NewWith(h, o)
		for _, change := range changes {
			change(app)
		}
		return app
	})
	e.app = app.(*App)
	return e
}

// pair is an entrance and an exit of one user. The exit serves the targets.
func pair(t testing.TB, o Options, targets ...string) (in, out *endpoint) {
	t.Helper()
	var n appstest.Net
	in, out = join(t, &n, "in", "alice", Options{}), join(t, &n, "out", "alice", o)
	out.change(t, Change{AddTargets: targets})
	return in, out
}

// call sends a request to the API of the endpoint.
func (e *endpoint) call(method, path string, in, out any) error {
	return e.API(method, "proxy"+path, in, out)
}

func (e *endpoint) change(t testing.TB, ch Change) View {
	t.Helper()
	var v View
	if err := e.call("PATCH", "/config", ch, &v); err != nil {
		t.Fatalf("change the configuration: %v", err)
	}
	return v
}

func (e *endpoint) allow(t testing.TB, user string, targets ...string) {
	t.Helper()
	if err := e.call("POST", "/rules", policy.Rule{Users: []string{user}, Targets: targets, Action: "allow"}, nil); err != nil {
		t.Fatalf("add a rule: %v", err)
	}
}

// listen makes the endpoint listen on a port of its own choice and returns the address.
func (e *endpoint) listen(t testing.TB) string {
	t.Helper()
	e.change(t, Change{SetListens: &[]string{"127.0.0.1:0"}})
	return e.bound(t, false)
}

// listenDNS is listen for DNS.
func (e *endpoint) listenDNS(t testing.TB) string {
	t.Helper()
	address := "127.0.0.1:0"
	e.change(t, Change{DNS: &address})
	return e.bound(t, true)
}

func (e *endpoint) bound(t testing.TB, dns bool) (address string) {
	t.Helper()
	appstest.Eventually(t, "a listener", func() bool {
		for _, l := range e.app.listeners.status() {
			if l.Open && l.DNS == dns {
				address = l.Bound
			}
		}
		return address != ""
	})
	return address
}

// dialTo is an Options.Dial for a network that is not there: every address leads to the listener that the map has for
// its port, "" to any other.
func dialTo(to map[string]string) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		real, ok := to[address]
		if !ok {
			return nil, fmt.Errorf("dial %s: no route to host", address)
		}
		var d net.Dialer
		return d.DialContext(ctx, network, real)
	}
}

// echo serves each connection by sending back what comes, half-close included.
func echo(t testing.TB) string {
	t.Helper()
	return serveTCP(t, func(c *net.TCPConn) {
		io.Copy(c, c)
		c.CloseWrite()
	})
}

// serveTCP serves connections until the end of the test and returns the address.
func serveTCP(t testing.TB, serve func(*net.TCPConn)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var work sync.WaitGroup
	work.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			work.Go(func() {
				defer c.Close()
				serve(c.(*net.TCPConn))
			})
		}
	})
	t.Cleanup(func() { ln.Close(); work.Wait() })
	return ln.Addr().String()
}

func dialTCP(t testing.TB, address string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(timeout))
	t.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn)
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
