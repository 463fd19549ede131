// Package appstest is a mesh in memory, to test apps with: endpoints that reach each other's apps over real loopback
// connections, without hub, certificates or sealing. Errors and half-closes arrive as they do in the real mesh.
package appstest

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/url"
	"slices"
	"sort"
	"strings"
	"sync"

	"ztm/apps"
	"ztm/tunnel/identity"
)

// Net is a mesh in memory. The zero value is empty and ready.
type Net struct {
	mu        sync.Mutex
	endpoints []*Host
}

// Host is one endpoint of a [Net]. It implements [apps.Mesh].
type Host struct {
	net   *Net
	apps  map[string]apps.App // guarded by net.mu
	self  apps.Endpoint       // guarded by net.mu
	flows map[*flow]struct{}  // guarded by net.mu
	state map[string][]byte   // guarded by net.mu

	Log io.Writer // where apps log; nil discards; set before New
}

var (
	_ apps.Mesh  = (*Host)(nil)
	_ apps.State = (*state)(nil)
	_ apps.Flow  = (*flow)(nil)
)

// Join adds an endpoint. Its ID is made from the name.
func (n *Net) Join(name, user string) *Host {
	h := &Host{net: n, apps: map[string]apps.App{}, flows: map[*flow]struct{}{}, state: map[string][]byte{}}
	h.self = apps.Endpoint{ID: identity.IDOf([]byte(name)), Name: name, User: user, Online: true}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.endpoints = append(n.endpoints, h)
	return h
}

// New makes an app at this endpoint with the constructor, and serves it from now on. The caller runs it.
func (h *Host) New(name string, construct func(apps.Host) apps.App) apps.App {
	w := h.Log
	if w == nil {
		w = io.Discard
	}
	app := construct(apps.Host{
		Mesh: h, State: &state{h, name + "/"}, Log: slog.New(slog.NewTextHandler(w, nil)),
		Offer: func(names []string) { h.offer(name, names) },
		Cut:   func(match func(apps.Peer, string) bool) { h.cut(name, match) },
	})
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	h.apps[name] = app
	return app
}

// SetOnline takes the endpoint off the mesh or brings it back.
func (h *Host) SetOnline(on bool) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	h.self.Online = on
}

func (h *Host) offer(app string, names []string) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	kept := slices.DeleteFunc(slices.Clone(h.self.Offers), func(o string) bool { return strings.HasPrefix(o, app+"/") })
	for _, n := range names {
		kept = append(kept, app+"/"+n)
	}
	h.self.Offers = kept
}

func (h *Host) cut(app string, match func(apps.Peer, string) bool) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	for f := range h.flows {
		if f.app == app && match(f.peer, f.path) {
			f.cancel()
		}
	}
}

// Name returns "test".
func (h *Host) Name() string { return "test" }

// Self returns this endpoint.
func (h *Host) Self() apps.Endpoint {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	e := h.self
	e.Local = true
	return e
}

// Endpoints lists the endpoints of the Net.
func (h *Host) Endpoints(_ context.Context, f apps.Filter) ([]apps.Endpoint, error) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	var out []apps.Endpoint
	for _, o := range h.net.endpoints {
		e := o.self
		e.Local = o == h
		if f.Name != "" && f.Name != e.Name || f.User != "" && f.User != e.User || f.Online && !e.Online ||
			f.Offer != "" && !slices.Contains(e.Offers, f.Offer) || !strings.Contains(e.Name, f.Keyword) {
			continue
		}
		out = append(out, e)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out, nil
}

// Open opens a flow to an app of another endpoint.
func (h *Host) Open(ctx context.Context, to identity.ID, path string, q url.Values) (net.Conn, error) {
	return h.open(ctx, to, path, q, false)
}

// OpenDatagrams opens a flow of datagrams to an app of another endpoint.
func (h *Host) OpenDatagrams(ctx context.Context, to identity.ID, path string, q url.Values) (net.Conn, error) {
	return h.open(ctx, to, path, q, true)
}

func (h *Host) open(ctx context.Context, to identity.ID, path string, q url.Values, datagrams bool) (net.Conn, error) {
	name, rest, _ := strings.Cut(path, "/")
	h.net.mu.Lock()
	var exit *Host
	for _, o := range h.net.endpoints {
		if o.self.ID == to {
			exit = o
		}
	}
	if exit == nil || !exit.self.Online {
		h.net.mu.Unlock()
		return nil, apps.Errorf(apps.Unavailable, "endpoint %s is offline", to)
	}
	app := exit.apps[name]
	if app == nil {
		h.net.mu.Unlock()
		return nil, apps.Errorf(apps.NotFound, "endpoint %s has no app %q", exit.self.Name, name)
	}
	fctx, cancel := context.WithCancel(context.Background())
	f := &flow{app: name, path: rest, query: q, datagrams: datagrams, cancel: cancel,
		peer: apps.Peer{ID: h.self.ID, User: h.self.User}, answer: make(chan answer, 1)}
	exit.flows[f] = struct{}{}
	h.net.mu.Unlock()

	go func() { // ends with Serve; a test that leaks it fails its own leak check
		defer cancel()
		app.Serve(fctx, f)
		f.Refuse(apps.Errorf(apps.Internal, "app %s returned without an answer", name))
		h.net.mu.Lock()
		defer h.net.mu.Unlock()
		delete(exit.flows, f)
	}()
	select {
	case a := <-f.answer:
		return a.conn, a.err
	case <-ctx.Done():
		cancel()
		return nil, ctx.Err()
	}
}

type answer struct {
	conn net.Conn
	err  error
}

type flow struct {
	app, path string
	query     url.Values
	peer      apps.Peer
	datagrams bool
	cancel    context.CancelFunc
	once      sync.Once
	answer    chan answer // capacity 1, never closed
}

func (f *flow) Peer() apps.Peer   { return f.peer }
func (f *flow) Path() string      { return f.path }
func (f *flow) Query() url.Values { return f.query }

func (f *flow) Refuse(err error) {
	if _, ok := err.(*apps.Error); !ok {
		err = apps.Errorf(apps.Internal, "internal error")
	}
	f.once.Do(func() { f.answer <- answer{err: err} })
}

func (f *flow) Accept() (net.Conn, error)          { return f.accept("tcp") }
func (f *flow) AcceptDatagrams() (net.Conn, error) { return f.accept("udp") }

func (f *flow) accept(network string) (net.Conn, error) {
	near, far, err := Pair(network)
	if err != nil {
		return nil, err
	}
	f.once.Do(func() {
		cancel := f.cancel
		f.cancel = func() { cancel(); near.Close() }
		f.answer <- answer{conn: far}
	})
	return near, nil
}

// Pair returns the two ends of a loopback connection, "tcp" or "udp". They have CloseWrite where TCP has it, and
// Reset.
func Pair(network string) (near, far net.Conn, err error) {
	if network == "udp" {
		a, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			return nil, nil, err
		}
		b, err := net.DialUDP("udp", nil, a.LocalAddr().(*net.UDPAddr))
		if err != nil {
			a.Close()
			return nil, nil, err
		}
		return connected{a, b.LocalAddr()}, b, nil
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	defer ln.Close()
	if near, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		return nil, nil, err
	}
	if far, err = ln.Accept(); err != nil {
		near.Close()
		return nil, nil, err
	}
	return resettable{near.(*net.TCPConn)}, resettable{far.(*net.TCPConn)}, nil
}

// connected is an unconnected UDP socket that sends to one address.
type connected struct {
	*net.UDPConn
	to net.Addr
}

func (c connected) Write(p []byte) (int, error) { return c.WriteTo(p, c.to) }

type resettable struct{ *net.TCPConn }

func (c resettable) Reset() error {
	c.SetLinger(0)
	return c.Close()
}

type state struct {
	h      *Host
	prefix string
}

func (s *state) Load(key string, v any) (bool, error) {
	s.h.net.mu.Lock()
	defer s.h.net.mu.Unlock()
	b, ok := s.h.state[s.prefix+key]
	if !ok {
		return false, nil
	}
	return true, json.Unmarshal(b, v)
}

func (s *state) Save(key string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	s.h.net.mu.Lock()
	defer s.h.net.mu.Unlock()
	s.h.state[s.prefix+key] = b
	return nil
}

func (s *state) Delete(key string) error {
	s.h.net.mu.Lock()
	defer s.h.net.mu.Unlock()
	delete(s.h.state, s.prefix+key)
	return nil
}

func (s *state) Keys(prefix string) ([]string, error) {
	s.h.net.mu.Lock()
	defer s.h.net.mu.Unlock()
	var out []string
	for k := range s.h.state {
		if rest, ok := strings.CutPrefix(k, s.prefix); ok && strings.HasPrefix(rest, prefix) {
			out = append(out, rest)
		}
	}
	sort.Strings(out)
	return out, nil
}
