// Package web is the console of an agent in a browser of the same machine.
//
//	ztm console -> POST /api/console -> [Console]: a listener on 127.0.0.1, and a code in the URL's fragment
//	browser     -> door (Host, Origin, Sec-Fetch) -> pages, which hold no secret
//	                                              -> /session: the code becomes a key, once
//	                                              -> key -> allowed -> the agent's own API
//	                                              -> ticket -> /live: answers of the API as they change
//	                                              -> ticket -> /flow: a flow to an app, in a WebSocket
//
// There is no listener before somebody asks for one, and none when nobody has used it for [idle].
// A page may do what the command line may and no more: it asks the same API. There is no cookie,
// because a browser sends those of 127.0.0.1 to the programs of all its ports. Keys are in memory
// alone, and end with everything that was opened with them.
package web

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"ztm/agent/api"
	sockets "ztm/apps/listen"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
)

// idle is how long the console stays open after it was used last.
const idle = 12 * time.Hour

// Host is the agent as a console sees it.
type Host struct {
	API http.Handler // the local API

	// Open opens a flow of bytes to the path of an app at an endpoint, as apps.Mesh has it.
	Open func(ctx context.Context, mesh string, to identity.ID, path string, query url.Values) (net.Conn, error)

	Log  *slog.Logger
	Life context.Context // all ends with it
	Go   func(func())    // runs a function that the agent waits for
}

// Console is the console of one agent. It serves [api.ConsolePath]; its methods may be called from
// any goroutine.
type Console struct {
	host   Host
	listen func(port int) ([]net.Listener, error)

	mu   sync.Mutex
	open *opening // nil while it is shut; guarded by mu
}

// New makes a console. It is shut.
func New(h Host) *Console { return &Console{host: h, listen: listen} }

// ServeHTTP serves the agent's own command line:
//
//	POST    api.Console -> api.ConsoleState    opens it, or one more browser
//	GET     api.ConsoleState
//	DELETE  shuts it
func (c *Console) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodPost:
		var in api.Console
		err := answer.Decode(r, maxBody, &in)
		var out api.ConsoleState
		if err == nil {
			out, err = c.invite(in)
		}
		answer.Reply(w, c.host.Log, out, err)
	case http.MethodGet:
		answer.JSON(w, c.state())
	case http.MethodDelete:
		c.mu.Lock()
		o := c.open
		c.mu.Unlock()
		if o != nil {
			o.shut()
			<-o.closed
		}
		w.WriteHeader(http.StatusNoContent)
	default:
		answer.Fail(w, c.host.Log, answer.Errorf(answer.BadRequest, "the console does not know %s", r.Method))
	}
}

func (c *Console) state() (s api.ConsoleState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open != nil && !c.open.over() {
		s = c.open.state()
	}
	return s
}

// invite returns an address with a code that is good once. It opens the door if it is shut.
func (c *Console) invite(in api.Console) (api.ConsoleState, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open != nil && c.open.over() {
		c.open = nil
	}
	if c.open == nil {
		o, err := c.begin(in.Port)
		if err != nil {
			return api.ConsoleState{}, err
		}
		c.open = o
	}
	if in.Port != 0 && in.Port != c.open.port {
		return api.ConsoleState{}, answer.Errorf(answer.Conflict, "the console is open at port %d; shut it first: ztm console --lock", c.open.port)
	}
	code, err := c.open.sessions.invite(in.ReadOnly)
	if err != nil {
		return api.ConsoleState{}, err
	}
	c.open.used()
	s := c.open.state()
	s.URL = "http://" + net.JoinHostPort("127.0.0.1", strconv.Itoa(s.Port)) + "/#" + code
	return s, nil
}

// opening is the time from the first invitation until the door is shut.
type opening struct {
	host     Host
	ctx      context.Context
	shut     context.CancelFunc
	closed   chan struct{} // closed when no listener is left
	port     int
	timer    *time.Timer // shuts it
	sessions sessions
	allowed  http.Handler
	sockets  chan struct{} // holds one for each WebSocket
}

// begin opens the door. The caller holds mu.
func (c *Console) begin(port int) (*opening, error) {
	listeners, err := c.listen(port)
	if err != nil {
		return nil, err
	}
	o := &opening{host: c.host, closed: make(chan struct{}), sockets: make(chan struct{}, maxSockets), allowed: allowed(c.host.API, c.host.Log)}
	o.ctx, o.shut = context.WithCancel(c.host.Life)
	o.port = portOf(listeners[0])
	o.sessions.begin(o.ctx, o.shut)
	o.timer = time.AfterFunc(idle, o.shut)
	srv := o.server()
	c.host.Go(func() {
		defer close(o.closed)
		defer o.timer.Stop()
		o.serve(srv, listeners)
	})
	c.host.Log.Info("the console is open", "port", o.port)
	return o, nil
}

// serve serves until ctx ends, or a listener fails.
func (o *opening) serve(srv *http.Server, listeners []net.Listener) {
	var serving sync.WaitGroup
	for _, ln := range listeners {
		serving.Go(func() {
			if err := srv.Serve(ln); o.ctx.Err() == nil {
				o.host.Log.Error("the console ends", "err", err)
			}
			o.shut()
		})
	}
	<-o.ctx.Done()
	srv.Close()
	serving.Wait()
	o.host.Log.Info("the console is shut", "port", o.port)
}

// used puts the end of the opening off.
func (o *opening) used() {
	if o.timer.Stop() {
		o.timer.Reset(idle)
	}
}

func (o *opening) state() api.ConsoleState {
	in, waiting := o.sessions.count()
	return api.ConsoleState{Port: o.port, Browsers: in, Waiting: waiting}
}

func (o *opening) over() bool { return o.ctx.Err() != nil }

func portOf(ln net.Listener) int {
	if a, ok := ln.Addr().(*net.TCPAddr); ok {
		return a.Port
	}
	return 0
}

// DefaultPort is where a console listens if nothing else is asked for.
const DefaultPort = 7777

// listen listens on a port of 127.0.0.1, and on the same of ::1 where there is IPv6: a name such as
// localhost may lead to either, and nobody else is to answer there. Never does it listen elsewhere.
func listen(port int) ([]net.Listener, error) {
	if port < 0 || port > 65535 {
		return nil, answer.Errorf(answer.BadRequest, "%d is no port", port)
	}
	if port == 0 {
		port = DefaultPort
	}
	var all []net.Listener
	for _, host := range []string{"127.0.0.1", "::1"} {
		address := net.JoinHostPort(host, strconv.Itoa(port))
		ln, err := net.Listen("tcp", address)
		if err == nil {
			all = append(all, ln)
			continue
		}
		if e := sockets.Error(address, uint16(port), err); len(all) == 0 || e.Code == answer.Conflict {
			for _, ln := range all {
				ln.Close()
			}
			return nil, e
		} // else this machine has no IPv6
	}
	return all, nil
}
