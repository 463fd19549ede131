package tunnel

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"ztm/apps/appstest"
)

func TestMain(m *testing.M) { os.Exit(appstest.Run(m)) }

// patience is how long a test waits for what must happen.
const patience = appstest.Patience

// endpoint is one endpoint of a test mesh, with its tunnel app running.
type endpoint struct {
	*appstest.Host
	app  *App
	log  *appstest.Buffer
	stop func()
}

// join adds an endpoint to a mesh and runs its app until the end of the test.
func join(t *testing.T, n *appstest.Net, name, user string) *endpoint {
	t.Helper()
	e := &endpoint{Host: n.Join(name, user), log: &appstest.Buffer{}}
	e.Host.Log = e.log
	e.run(t)
	return e
}

// run runs a new app with the state that the endpoint has.
func (e *endpoint) run(t *testing.T) {
	app, stop := e.Start(t, appName, New)
	e.app, e.stop = app.(*App), stop
}

// call sends a request to the API of the endpoint.
func (e *endpoint) call(method, path string, in, out any) error {
	return e.API(method, appName+path, in, out)
}

func (e *endpoint) mustCall(t *testing.T, method, path string, in, out any) {
	t.Helper()
	if err := e.call(method, path, in, out); err != nil {
		t.Fatalf("%s %s at %s: %v", method, path, e.Self().Name, err)
	}
}

// offer opens an outbound; fields are more members of its JSON object, for example `"users":["bob"]`.
func (e *endpoint) offer(t *testing.T, name, target string, fields ...string) {
	t.Helper()
	members := append([]string{`"targets":["` + strings.ReplaceAll(target, ",", `","`) + `"]`}, fields...)
	e.mustCall(t, "POST", "/outbound/"+name, "{"+strings.Join(members, ",")+"}", nil)
}

// listen opens an inbound on a port of the system's choice and returns the address.
func (e *endpoint) listen(t *testing.T, name string, fields ...string) string {
	t.Helper()
	var s InboundStatus
	members := append([]string{`"listens":["0"]`}, fields...)
	e.mustCall(t, "POST", "/inbound/"+name, "{"+strings.Join(members, ",")+"}", &s)
	return s.Listeners[0].Address
}

func (e *endpoint) outboundStatus(t *testing.T, name string) OutboundStatus {
	t.Helper()
	var s OutboundStatus
	e.mustCall(t, "GET", "/outbound/"+name, nil, &s)
	return s
}

func (e *endpoint) inboundStatus(t *testing.T, name string) InboundStatus {
	t.Helper()
	var s InboundStatus
	e.mustCall(t, "GET", "/inbound/"+name, nil, &s)
	return s
}

// server is a TCP server that says its name and then echoes, and passes on half-closes.
func server(t *testing.T, name string) string {
	t.Helper()
	ln := listenTCP(t, "127.0.0.1:0")
	serve(t, ln, name)
	return ln.Addr().String()
}

// listenTCP listens until the end of the test, or until the listener is closed.
func listenTCP(t *testing.T, address string) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

func serve(t *testing.T, ln net.Listener, name string) {
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer c.Close()
				io.WriteString(c, name+"\n")
				io.Copy(c, c)
			})
		}
	})
	t.Cleanup(func() { ln.Close(); running.Wait() })
}

func dial(t *testing.T, address string) net.Conn {
	t.Helper()
	c, err := tryDial(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func tryDial(address string) (net.Conn, error) {
	network := "tcp"
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		network, address = "unix", path
	}
	c, err := net.Dial(network, address)
	if err == nil {
		err = c.SetDeadline(time.Now().Add(patience))
	}
	return c, err
}

// greeting connects and returns the name that the server says, or the error.
func greeting(t *testing.T, address string) (string, error) {
	t.Helper()
	c, err := tryDial(address)
	if err != nil {
		return "", err // a reset may come that early
	}
	defer c.Close()
	return readLine(c)
}

func readLine(c net.Conn) (string, error) {
	var line []byte
	for b := make([]byte, 1); ; {
		if _, err := io.ReadFull(c, b); err != nil {
			return string(line), err
		}
		if b[0] == '\n' {
			return string(line), nil
		}
		line = append(line, b[0])
	}
}

func wantGreeting(t *testing.T, address, want string) {
	t.Helper()
	if got, err := greeting(t, address); got != want || err != nil {
		t.Errorf("connected to %q, %v; want %q", got, err, want)
	}
}

func wantReset(t *testing.T, address string) {
	t.Helper()
	if got, err := greeting(t, address); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %q, %v; want a reset", got, err)
	}
}

func TestConnectionReachesTheServiceBehindTheExit(t *testing.T) {
	var n appstest.Net
	a, b := join(t, &n, "a", "alice"), join(t, &n, "b", "alice")
	b.offer(t, "tcp/web", server(t, "web"))
	c := dial(t, a.listen(t, "tcp/web"))
	if got, err := readLine(c); got != "web" || err != nil {
		t.Fatalf("got %q, %v", got, err)
	}
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	go func() {
		c.Write(data)
		c.(*net.TCPConn).CloseWrite() // the echo must still arrive
	}()
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("the echo has %d bytes, %v; want the %d that were sent", len(got), err, len(data))
	}
	appstest.Eventually(t, "the flow is counted at both ends", func() bool {
		up, down := int64(len(data)), int64(len(data)+len("web\n"))
		want := Counts{Flows: 1, Up: up, Down: down}
		in, out := a.inboundStatus(t, "tcp/web").Stats, b.outboundStatus(t, "tcp/web").Stats
		return in.Counts == want && out.Counts == want && len(in.Peers) == 1 && in.Peers[0].Counts == want &&
			out.Peers[0] == PeerCounts{a.Self().ID, want}
	})
}

func TestServerMayEndItsDirectionFirst(t *testing.T) {
	var n appstest.Net
	a, b := join(t, &n, "a", "alice"), join(t, &n, "b", "alice")
	ln := listenTCP(t, "127.0.0.1:0")
	received := make(chan string, 1)
	go func() {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		io.WriteString(c, "all I have\n")
		c.(*net.TCPConn).CloseWrite()
		rest, _ := io.ReadAll(c)
		received <- string(rest)
	}()
	b.offer(t, "tcp/web", ln.Addr().String())
	c := dial(t, a.listen(t, "tcp/web"))
	if got, err := io.ReadAll(c); string(got) != "all I have\n" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	io.WriteString(c, "thank you")
	c.(*net.TCPConn).CloseWrite()
	if got := <-received; got != "thank you" {
		t.Errorf("the server got %q after its own end", got)
	}
}

func TestTunnelsSurviveARestart(t *testing.T) {
	var n appstest.Net
	a, b := join(t, &n, "a", "alice"), join(t, &n, "b", "alice")
	b.offer(t, "tcp/web", server(t, "web"))
	address := appstest.FreeAddress(t)
	a.mustCall(t, "POST", "/inbound/tcp/web", `{"listens":["`+address+`"]}`, nil)

	a.stop()
	b.stop()
	if c, err := net.Dial("tcp", address); err == nil {
		c.Close()
		t.Error("the listener outlived the app")
	}
	squatter := listenTCP(t, address) // a listener that cannot open must not stop anything
	a.run(t)
	b.run(t)
	appstest.Eventually(t, "describe shows why it is not open", func() bool {
		l := a.inboundStatus(t, "tcp/web").Listeners[0]
		return !l.Open && strings.Contains(l.Error, "in use")
	})
	squatter.Close()
	appstest.Eventually(t, "the listener opens", func() bool { return a.inboundStatus(t, "tcp/web").Listeners[0].Open })
	wantGreeting(t, address, "web")
}

func TestASavedTunnelThatIsDamagedDoesNotStopTheOthers(t *testing.T) {
	var n appstest.Net
	b := join(t, &n, "b", "alice")
	b.offer(t, "tcp/good", server(t, "good"))
	b.stop()
	h := b.app.host
	h.State.Save(outboundPrefix+"tcp/empty", Outbound{Key: Key{TCP, "empty"}})
	h.State.Save(outboundPrefix+"tcp/odd", 7)
	b.run(t)
	appstest.Eventually(t, "the good one is offered", func() bool { return len(b.Self().Offers) == 1 })
	if got := b.app.Status().Outbound; len(got) != 1 || got[0].Name != "good" {
		t.Errorf("loaded %v", got)
	}
	if !strings.Contains(b.log.String(), "outbound/tcp/odd") {
		t.Error("the log does not name the damaged tunnel")
	}
}
