// Package appstest is a mesh in memory, to test apps with: endpoints that reach each other's apps
// over real loopback connections, without hub, certificates or sealing. Errors and half-closes
// arrive as they do in the real mesh.
package appstest

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"sync"
	"testing"

	"ztm/apps"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	"ztm/tunnel/offer"
	"ztm/tunnel/unixtime"
)

// Net is a mesh in memory. The zero value is empty and ready.
type Net struct {
	mu        sync.Mutex
	endpoints []*Host
	evictions int64               // guarded by mu
	groups    map[string][]string // the users of "group:NAME"; guarded by mu
}

// Host is one endpoint of a [Net]. It implements [apps.Mesh].
type Host struct {
	net   *Net                // static
	key   ed25519.PrivateKey  // static
	apps  map[string]apps.App // guarded by net.mu
	self  apps.Endpoint       // guarded by net.mu
	since unixtime.Seconds    // when the endpoint was admitted, in evictions; guarded by net.mu
	flows map[*flow]struct{}  // guarded by net.mu
	state map[string][]byte   // guarded by net.mu

	Log io.Writer // where apps log; nil discards; set before New
	Dir string    // where apps keep files; "" is nowhere; set before New
}

var (
	_ apps.Mesh  = (*Host)(nil)
	_ apps.State = (*state)(nil)
)

// Join adds an endpoint. Its key is made from the name.
func (n *Net) Join(name, user string) *Host {
	h := &Host{net: n, since: 1, apps: map[string]apps.App{}, flows: map[*flow]struct{}{}, state: map[string][]byte{}}
	h.key = keyOf(name)
	h.self = apps.Endpoint{ID: identity.IDOf(h.key.Public().(ed25519.PublicKey)), Name: name, User: user, Online: true}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.endpoints = append(n.endpoints, h)
	return h
}

// New makes an app at this endpoint with the constructor, and serves it from now on. The caller
// runs it.
func (h *Host) New(name string, construct func(apps.Host) apps.App) apps.App {
	w := h.Log
	if w == nil {
		w = io.Discard
	}
	app := construct(apps.Host{
		Mesh: h, State: &state{h, name + "/"}, Notary: notary{h, name}, Dir: h.dir(name), Log: slog.New(slog.NewTextHandler(w, nil)),
		Offer: func(names []string) { h.offer(name, names) },
		Names: h.net.names, API: h.api,
		Cut: func(match func(apps.Peer, string) bool) { h.cut(name, match) },
	})
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	h.apps[name] = app
	return app
}

// api returns the API of an app of this endpoint, or nil.
func (h *Host) api(name string) http.Handler {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	if app := h.apps[name]; app != nil {
		return app.API()
	}
	return nil
}

// dir returns where an app keeps files.
func (h *Host) dir(app string) string {
	if h.Dir == "" {
		return ""
	}
	return filepath.Join(h.Dir, app)
}

// Start makes an app at this endpoint, as [Host.New] does, and runs it until stop is called or the
// test ends. stop returns when the app has ended, and may be called more than once.
func (h *Host) Start(t testing.TB, name string, construct func(apps.Host) apps.App) (app apps.App, stop func()) {
	t.Helper()
	app = h.New(name, construct)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{}) // closed when the app has ended
	go func() {
		defer close(done)
		if err := app.Run(ctx); err != nil {
			t.Errorf("app %s at %s: %v", name, h.Self().Name, err)
		}
	}()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return app, stop
}

// Rename gives the endpoint another name: its key, which is made of the first one, stays.
func (h *Host) Rename(name string) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	h.self.Name = name
}

// SetOnline takes the endpoint off the mesh, which breaks its flows, or brings it back.
func (h *Host) SetOnline(on bool) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	h.self.Online = on
	if on {
		return
	}
	for _, o := range h.net.endpoints {
		for f := range o.flows {
			if o == h || f.peer.ID == h.self.ID {
				f.end()
			}
		}
	}
}

// SetGroup says who is in a group, and has all apps look again at what runs for whom.
func (n *Net) SetGroup(name string, users ...string) {
	n.mu.Lock()
	if n.groups == nil {
		n.groups = map[string][]string{}
	}
	n.groups["group:"+name] = users
	n.mu.Unlock()
	n.Judge(func(apps.Peer, string) bool { return true })
}

// Judge has all apps look again at what runs for whom, where the policy lets peers do what lets says.
// Their flows stay.
func (n *Net) Judge(lets func(p apps.Peer, path string) bool) {
	n.mu.Lock()
	var judges []apps.Judge
	for _, h := range n.endpoints {
		for _, app := range h.apps {
			if j, ok := app.(apps.Judge); ok {
				judges = append(judges, j)
			}
		}
	}
	n.mu.Unlock()
	for _, j := range judges { // without the lock: an app may ask the mesh
		j.Judge(lets)
	}
}

// names is the [apps.Names] of all endpoints. There are no labels, and no policy.
func (n *Net) names(p apps.Peer, who []string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return p.User != "" && slices.ContainsFunc(who, func(term string) bool {
		return term == p.User || term == "*" || slices.Contains(n.groups[term], p.User)
	})
}

// Evict evicts a user, whose endpoints are invited again at once: their flows end, and all apps
// hear who has left.
func (n *Net) Evict(user string) {
	n.mu.Lock()
	n.evictions++
	since := unixtime.Seconds(n.evictions) + 1 // all are admitted at 1
	gone := func(p apps.Peer) bool { return p.User == user && p.Admitted < since }
	var left []apps.App
	for _, h := range n.endpoints {
		if h.self.User == user {
			h.since = since
		}
		for f := range h.flows {
			if gone(f.peer) {
				f.end()
			}
		}
		left = slices.AppendSeq(left, maps.Values(h.apps))
	}
	n.mu.Unlock()
	for _, app := range left { // without the lock: an app may ask the mesh
		app.Left(gone)
	}
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
	running := slices.Collect(maps.Keys(h.flows))
	h.net.mu.Unlock()
	for _, f := range running { // without the lock: match may ask the mesh
		if f.app == app && match(f.peer, f.path) {
			f.end()
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
	e.Local, e.Admitted = true, h.since.Time()
	return e
}

// Endpoints lists the endpoints of the Net.
func (h *Host) Endpoints(_ context.Context, f apps.Filter) ([]apps.Endpoint, error) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	var out []apps.Endpoint
	for _, o := range h.net.endpoints {
		e := o.self
		e.Local, e.Admitted = o == h, o.since.Time()
		if matches(f, e) {
			out = append(out, e)
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	out = out[min(f.Offset, len(out)):]
	if f.Limit > 0 {
		out = out[:min(f.Limit, len(out))]
	}
	return out, nil
}

func matches(f apps.Filter, e apps.Endpoint) bool {
	named, perhaps := offer.Has(e.Offers, f.Offer)
	keyword := strings.Contains(e.Name, f.Keyword) ||
		slices.ContainsFunc(e.Labels, func(l string) bool { return strings.Contains(l, f.Keyword) })
	return keyword && (f.Name == "" || f.Name == e.Name) && (f.User == "" || f.User == e.User) &&
		(f.Offer == "" || named || perhaps) && (!f.Online || e.Online)
}

// Open opens a flow to an app of another endpoint, or of this one.
func (h *Host) Open(ctx context.Context, to identity.ID, path string, q url.Values) (net.Conn, error) {
	return h.open(ctx, to, path, q, false)
}

// OpenDatagrams opens a flow of datagrams to an app of another endpoint, or of this one.
func (h *Host) OpenDatagrams(ctx context.Context, to identity.ID, path string, q url.Values) (net.Conn, error) {
	return h.open(ctx, to, path, q, true)
}

func (h *Host) open(ctx context.Context, to identity.ID, path string, q url.Values, datagrams bool) (net.Conn, error) {
	f, app, exit, err := h.ask(to, path, q, datagrams)
	if err != nil {
		return nil, err
	}
	fctx, cancel := context.WithCancel(context.Background())
	f.setCancel(cancel)
	go exit.serve(fctx, app, f)
	select {
	case a := <-f.answer:
		return a.conn, a.err
	case <-ctx.Done():
		f.end()
		return nil, ctx.Err()
	}
}

// ask makes the flow and files it at the exit, so that it can be cut from then on.
func (h *Host) ask(to identity.ID, path string, q url.Values, datagrams bool) (*flow, apps.App, *Host, error) {
	name, rest, _ := strings.Cut(path, "/")
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	i := slices.IndexFunc(h.net.endpoints, func(o *Host) bool { return o.self.ID == to })
	if i < 0 || !h.self.Online || !h.net.endpoints[i].self.Online {
		return nil, nil, nil, answer.Errorf(answer.Unavailable, "endpoint %s is offline", to)
	}
	exit := h.net.endpoints[i]
	app := exit.apps[name]
	if app == nil {
		return nil, nil, nil, answer.Errorf(answer.NotFound, "endpoint %s has no app %q", exit.self.Name, name)
	}
	f := &flow{app: name, path: rest, query: q, datagrams: datagrams, exit: exit.self,
		peer: apps.Peer{ID: h.self.ID, User: h.self.User, Admitted: h.since}, answer: make(chan outcome, 1)}
	exit.flows[f] = struct{}{}
	return f, app, exit, nil
}

// serve runs the app for one flow, which is over when the app returns. A test that leaks it fails
// its own leak check.
func (h *Host) serve(ctx context.Context, app apps.App, f *flow) {
	app.Serve(ctx, f)
	f.Refuse(answer.Errorf(answer.Internal, "app %s returned without an answer", f.app))
	f.end()
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	delete(h.flows, f)
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

func (s *state) SaveAll(values map[string]any) error {
	for key, v := range values {
		var err error
		if v == nil {
			err = s.Delete(key)
		} else {
			err = s.Save(key, v)
		}
		if err != nil {
			return err
		}
	}
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
