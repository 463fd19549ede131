// Package tunneltest helps to test the tunnel app and its command line: endpoints of a mesh in
// memory that run the app, servers behind their exits and clients before their entrances.
package tunneltest

import (
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"ztm/apps"
	"ztm/apps/appstest"
	"ztm/apps/tunnel"
	"ztm/apps/tunnel/entrance"
	"ztm/apps/tunnel/exit"
	"ztm/apps/tunnel/spec"
)

// Timeout is how long a test waits for what must happen.
const Timeout = appstest.Timeout

// Endpoint is one endpoint of a test mesh, with its tunnel app running.
type Endpoint struct {
	*appstest.Host
	App    *tunnel.App
	State  apps.State // what the app has saved
	Logged *appstest.Buffer
	Stop   func() // stops the app
}

// Join adds an endpoint to a mesh and runs its app until the end of the test.
func Join(t *testing.T, n *appstest.Net, name, user string) *Endpoint {
	t.Helper()
	e := &Endpoint{Host: n.Join(name, user), Logged: &appstest.Buffer{}}
	e.Host.Log = e.Logged
	e.Run(t)
	return e
}

// Run runs a new app with the state that the endpoint has.
func (e *Endpoint) Run(t *testing.T) {
	app, stop := e.Start(t, spec.AppName, func(h apps.Host) apps.App {
		e.State = h.State
		return tunnel.New(h)
	})
	e.App, e.Stop = app.(*tunnel.App), stop
}

// Call sends a request to the API of the endpoint.
func (e *Endpoint) Call(method, path string, in, out any) error {
	return e.API(method, spec.AppName+path, in, out)
}

// MustCall is Call, and fails the test on an error.
func (e *Endpoint) MustCall(t *testing.T, method, path string, in, out any) {
	t.Helper()
	if err := e.Call(method, path, in, out); err != nil {
		t.Fatalf("%s %s at %s: %v", method, path, e.Self().Name, err)
	}
}

// Offer opens an outbound; fields are more members of its JSON object, for example
// `"users":["bob"]`.
func (e *Endpoint) Offer(t *testing.T, name, target string, fields ...string) {
	t.Helper()
	members := append([]string{`"targets":["` + strings.ReplaceAll(target, ",", `","`) + `"]`}, fields...)
	e.MustCall(t, "POST", "/outbound/"+name, "{"+strings.Join(members, ",")+"}", nil)
}

// Listen opens an inbound on a port of the system's choice and returns the address.
func (e *Endpoint) Listen(t *testing.T, name string, fields ...string) string {
	t.Helper()
	var s entrance.Status
	members := append([]string{`"listens":["0"]`}, fields...)
	e.MustCall(t, "POST", "/inbound/"+name, "{"+strings.Join(members, ",")+"}", &s)
	return s.Listeners[0].Address
}

// OutboundStatus asks the API for an outbound.
func (e *Endpoint) OutboundStatus(t *testing.T, name string) exit.Status {
	t.Helper()
	var s exit.Status
	e.MustCall(t, "GET", "/outbound/"+name, nil, &s)
	return s
}

// InboundStatus asks the API for an inbound.
func (e *Endpoint) InboundStatus(t *testing.T, name string) entrance.Status {
	t.Helper()
	var s entrance.Status
	e.MustCall(t, "GET", "/inbound/"+name, nil, &s)
	return s
}

// Server is a TCP server that says its name and then echoes, and passes on half-closes.
func Server(t *testing.T, name string) string {
	t.Helper()
	ln := ListenTCP(t, "127.0.0.1:0")
	Serve(t, ln, name)
	return ln.Addr().String()
}

// ListenTCP listens until the end of the test, or until the listener is closed.
func ListenTCP(t *testing.T, address string) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

// Serve serves a listener as [Server] does, until the end of the test.
func Serve(t *testing.T, ln net.Listener, name string) {
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

// Dial connects to a port or, as "unix:PATH", to a socket, with a deadline.
func Dial(t *testing.T, address string) net.Conn {
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
		err = c.SetDeadline(time.Now().Add(Timeout))
	}
	return c, err
}

// Greeting connects and returns the name that the server says, or the error.
func Greeting(t *testing.T, address string) (string, error) {
	t.Helper()
	c, err := tryDial(address)
	if err != nil {
		return "", err // a reset may come that early
	}
	defer c.Close()
	return ReadLine(c)
}

// ReadLine reads up to the end of a line, which it leaves out.
func ReadLine(c net.Conn) (string, error) {
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

// WantGreeting fails the test unless a server of that name answers.
func WantGreeting(t *testing.T, address, want string) {
	t.Helper()
	if got, err := Greeting(t, address); got != want || err != nil {
		t.Errorf("connected to %q, %v; want %q", got, err, want)
	}
}

// WantReset fails the test unless a connection is reset.
func WantReset(t *testing.T, address string) {
	t.Helper()
	if got, err := Greeting(t, address); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %q, %v; want a reset", got, err)
	}
}
