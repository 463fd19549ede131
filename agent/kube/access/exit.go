package access

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httputil"
	"net/textproto"
	"slices"
	"strings"
	"sync"
	"time"

	"ztm/agent/kube/cluster"
	"ztm/apps"
	"ztm/tunnel/identity/policy"
)

const (
	headerTime = 30 * time.Second // for the header of a request to arrive
	idleTime   = 5 * time.Minute  // between two requests
	maxHeader  = 64 << 10         // bytes
	prefix     = "ztm:"           // of users and groups, as the cluster's rules name them
)

// exit takes requests to an API server, each as the user it comes from.
type exit struct {
	client *cluster.Client // static
	groups []string        // of the mesh, that a user may be in at the cluster; static
	names  apps.Names      // static
	log    *slog.Logger    // static

	mu    sync.Mutex
	flows map[*flow]struct{} // those that run; guarded by mu
}

func newExit(c *cluster.Client, groups []string, h apps.Host) *exit {
	x := &exit{client: c, groups: groups, names: h.Names, log: h.Log, flows: map[*flow]struct{}{}}
	x.groupsOf(apps.Peer{}) // so that the mesh's policy is asked for them before somebody comes
	return x
}

// flow is a flow of requests of one peer.
type flow struct {
	peer apps.Peer
	end  func()

	mu   sync.Mutex
	used map[string]bool // the groups that requests were sent with; guarded by mu
}

// groupsOf returns the groups that a peer is in now, of those that the cluster is to know.
func (x *exit) groupsOf(p apps.Peer) (in []string) {
	for _, g := range x.groups {
		if x.names(p, []string{policy.GroupPrefix + g}) {
			in = append(in, g)
		}
	}
	return in
}

// asks notes the groups with which a request of the flow goes on, and returns them. Who is in a group
// may change meanwhile. So it is looked at again once it is noted: whoever takes it away later finds
// the note.
func (x *exit) asks(f *flow) []string {
	groups := x.groupsOf(f.peer)
	for {
		f.note(groups)
		now := x.groupsOf(f.peer)
		if slices.Equal(now, groups) {
			return groups
		}
		groups = now
	}
}

func (f *flow) note(groups []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, g := range groups {
		f.used[g] = true
	}
}

// lost reports whether a group that was used is none of those that the peer is in now.
func (f *flow) lost(now []string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for g := range f.used {
		if !slices.Contains(now, g) {
			return true
		}
	}
	return false
}

// judge ends the flows whose requests had a group that their peer is not in any longer: a watch and a
// terminal would go on with its rights.
func (x *exit) judge() {
	x.mu.Lock()
	flows := slices.Collect(maps.Keys(x.flows))
	x.mu.Unlock()
	for _, f := range flows {
		if f.lost(x.groupsOf(f.peer)) {
			f.end()
		}
	}
}

// passed are the headers of a request that go on. What is not here stays behind: whatever would say
// who asks, and all that nobody thought of.
var passed = []string{
	"Accept", "Accept-Encoding", "Content-Encoding", "Content-Length", "Content-Type", "If-Match", "If-Modified-Since", "If-None-Match",
	"If-Unmodified-Since", "Kubectl-Command", "Kubectl-Session", "Range", "User-Agent", "X-Stream-Protocol-Version",
	"Sec-Websocket-Key", "Sec-Websocket-Version", "Sec-Websocket-Extensions",
	"Connection", "Upgrade", // as the proxy has made them: an upgrade, or nothing
}

// onward makes the header of a request that goes on. from is what the proxy has left of the
// client's, without those that are for one hop.
func onward(from http.Header, user string, groups []string, token string) http.Header {
	h := http.Header{}
	for _, name := range passed {
		if v := from.Values(name); len(v) > 0 {
			h[textproto.CanonicalMIMEHeaderKey(name)] = v
		}
	}
	if h.Get("Upgrade") == "" {
		h.Del("Connection")
	}
	// A browser's client puts its token into a protocol's name.
	for _, v := range from.Values("Sec-Websocket-Protocol") {
		for p := range strings.SplitSeq(v, ",") {
			if p = strings.TrimSpace(p); p != "" && !strings.HasPrefix(strings.ToLower(p), "base64url.bearer.authorization.") {
				h.Add("Sec-Websocket-Protocol", p)
			}
		}
	}
	h.Set("Authorization", "Bearer "+token)
	h.Set("Impersonate-User", user)
	for _, g := range groups {
		h.Add("Impersonate-Group", prefix+g)
	}
	return h
}

// subject returns the user of the cluster that a peer is, and false if there can be none. An empty
// header would be the exit's own account.
func subject(p apps.Peer) (string, bool) {
	return prefix + p.User, fits(p.User)
}

// fits reports whether a name of the mesh can be one in the cluster.
func fits(name string) bool {
	return name != "" && len(name) <= 200 && !strings.ContainsFunc(name, func(r rune) bool {
		return r <= ' ' || r > '~' || r == ':' || r == ','
	})
}

// handler answers the requests in a flow.
func (x *exit) handler(f *flow) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, ok := subject(f.peer)
		if !ok {
			fail(w, http.StatusInternalServerError, "the name of your user cannot be a name in this cluster")
			return
		}
		for name := range r.Header {
			if strings.HasPrefix(strings.ToLower(strings.ReplaceAll(name, "_", "-")), "impersonate-") {
				fail(w, http.StatusForbidden, "you are "+user+" here, and cannot be somebody else: leave out --as")
				return
			}
		}
		if r.Method == http.MethodConnect || !strings.HasPrefix(r.URL.Path, "/") {
			fail(w, http.StatusMethodNotAllowed, "this is an API server, and no proxy")
			return
		}
		token, err := x.client.Token()
		if err != nil || token == "" {
			x.log.Error("the token of the cluster cannot be read", "err", err)
			fail(w, http.StatusBadGateway, "the endpoint has no token for its cluster")
			return
		}
		x.forward(w, r, user, x.asks(f), token)
	})
}

func (x *exit) forward(w http.ResponseWriter, r *http.Request, user string, groups []string, token string) {
	seen := &status{ResponseWriter: w, code: http.StatusOK}
	proxy := httputil.ReverseProxy{
		Transport: x.client.Transport(), FlushInterval: -1, ErrorLog: slog.NewLogLogger(x.log.Handler(), slog.LevelDebug),
		Rewrite: func(pr *httputil.ProxyRequest) {
			base := x.client.Base()
			pr.Out.URL.Scheme, pr.Out.URL.Host, pr.Out.Host = base.Scheme, base.Host, base.Host
			asIs(pr)
			pr.Out.Header = onward(pr.Out.Header, user, groups, token)
			pr.Out.Trailer = nil
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			x.log.Debug("the API server does not answer", "err", err)
			fail(w, http.StatusBadGateway, "the API server does not answer")
		},
	}
	defer func() {
		level := slog.LevelInfo
		if r.Method == http.MethodGet || r.Method == http.MethodHead {
			level = slog.LevelDebug
		}
		x.log.Log(context.Background(), level, "request to the cluster", "user", user, "method", r.Method, "path", r.URL.Path, "code", seen.code)
	}()
	proxy.ServeHTTP(seen, r)
}

// asIs leaves path and query as the client wrote them: net/http would escape what it finds odd, and
// undo what stands beside it, %2F too (RFC 9110 section 7.7).
func asIs(pr *httputil.ProxyRequest) {
	u, asked := pr.Out.URL, pr.In.RequestURI
	if u.RequestURI() != asked && strings.HasPrefix(asked, "/") && !strings.HasPrefix(asked, "//") {
		u.Path, u.RawPath, u.RawQuery, u.ForceQuery, u.Opaque = "", "", "", false, asked
	}
}

// status notes how a request was answered.
type status struct {
	http.ResponseWriter
	code int
}

func (s *status) WriteHeader(code int) {
	s.code = code
	s.ResponseWriter.WriteHeader(code)
}

// Unwrap lets upgrades and flushes through.
func (s *status) Unwrap() http.ResponseWriter { return s.ResponseWriter }

// fail answers as an API server does.
func fail(w http.ResponseWriter, code int, message string) {
	text, _ := json.Marshal(message) // a string never fails
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	fmt.Fprintf(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","message":%s,"code":%d}`, text, code)
}

// serve answers the requests in a flow until it ends.
func (x *exit) serve(ctx context.Context, f apps.Flow) {
	c, err := f.Accept()
	if err != nil {
		return
	}
	// A server sets deadlines, and a flow has none. So the server gets one end of a pipe.
	near, far := net.Pipe()
	done := make(chan struct{})
	end := func() { c.Close(); near.Close() }
	defer context.AfterFunc(ctx, end)()
	one := &flow{peer: f.Peer(), end: end, used: map[string]bool{}}
	x.add(one)
	defer x.remove(one)
	var copies sync.WaitGroup
	copies.Go(func() { defer near.Close(); io.Copy(near, c) })
	copies.Go(func() { defer end(); io.Copy(c, near) }) // the last answer is through when this ends
	server := &http.Server{Handler: x.handler(one), ReadHeaderTimeout: headerTime, IdleTimeout: idleTime, MaxHeaderBytes: maxHeader, DisableGeneralOptionsHandler: true,
		ErrorLog: slog.NewLogLogger(x.log.Handler(), slog.LevelDebug), BaseContext: func(net.Listener) context.Context { return ctx }}
	server.Serve(&single{conn: &ending{Conn: far, end: sync.OnceFunc(func() { close(done) })}, done: done})
	server.Close()
	copies.Wait()
}

func (x *exit) add(f *flow) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.flows[f] = struct{}{}
}

func (x *exit) remove(f *flow) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.flows, f)
}

// single is a listener that accepts one connection and ends with it.
type single struct {
	mu   sync.Mutex
	conn net.Conn // nil once it was accepted; guarded by mu
	done chan struct{}
}

func (s *single) Accept() (net.Conn, error) {
	s.mu.Lock()
	c := s.conn
	s.conn = nil
	s.mu.Unlock()
	if c != nil {
		return c, nil
	}
	<-s.done
	return nil, net.ErrClosed
}

func (s *single) Close() error   { return nil }
func (s *single) Addr() net.Addr { return &net.UnixAddr{Name: "flow"} }

// ending tells when a connection is closed.
type ending struct {
	net.Conn
	end func()
}

func (e *ending) Close() error {
	defer e.end()
	return e.Conn.Close()
}
