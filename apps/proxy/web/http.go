// Package web serves the clients of HTTP. Their requests come through an [httpguard.Guard]; net/http parses them.
//
//	CONNECT host:port          the connection to the exit and the client's are joined
//	METHOD http://host/...     forwarded as RFC 9110 section 7.6 and RFC 9112 section 3.2.2 say
//	GET /proxy.pac             how browsers are told what to send here (own.go)
//
// Each client connection has its own connections to the targets, which end with it: a server that authenticates
// connections (NTLM) never sees two clients on one.
package web

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"ztm/apps/proxy/clients"
	"ztm/apps/proxy/httpguard"
	"ztm/apps/proxy/relay"
	"ztm/apps/proxy/route"
	"ztm/apps/reach"
	"ztm/tunnel/answer"
	"ztm/tunnel/splice"
)

const (
	idleTimeout       = 2 * time.Minute // between two requests
	maxHops           = 10              // proxies that a request may have passed before this one
	maxResponseHeader = 256 << 10       // bytes
	defaultHTTPPort   = "80"
)

// Server serves HTTP clients.
type Server struct {
	clients *clients.List
	router  *route.Router
	server  *http.Server
	conns   chan net.Conn // unbuffered, never closed
	done    chan struct{} // closed when the server has ended
	via     string        // how this proxy calls itself in Via: not by a name that says who it is
}

// client is an HTTP client.
type client struct {
	*clients.Client
	guard     *httpguard.Guard
	transport *http.Transport
	forward   *httputil.ReverseProxy
	written   atomic.Int64 // pieces of answers
}

// rawKey is where the context of a request has path and query as the client wrote them.
type rawKey struct{}

// clientKey is where the context of a request has its *client.
type clientKey struct{}

// New makes a server for clients. via is how it calls itself.
func New(c *clients.List, r *route.Router, via string, log *slog.Logger) *Server {
	w := &Server{clients: c, router: r, conns: make(chan net.Conn), done: make(chan struct{}), via: via}
	w.server = &http.Server{
		ReadHeaderTimeout:            httpguard.HeadTimeout,
		IdleTimeout:                  idleTimeout,
		MaxHeaderBytes:               2 * httpguard.MaxHead, // the guard has the last word
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, clientKey{}, c.(*conn).client)
		},
	}
	return w
}

// Name is how this proxy calls itself in Via.
func (w *Server) Name() string { return w.via }

// conn is what the server gets: a guarded connection that knows its client.
type conn struct {
	*httpguard.Guard
	client *client
}

// Run serves until ctx ends.
func (w *Server) Run(ctx context.Context) {
	defer close(w.done)
	stop := context.AfterFunc(ctx, func() { w.server.Close() })
	defer stop()
	w.server.Handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { w.handle(ctx, rw, r) })
	w.server.Serve(listener{w, ctx.Done()})
}

// listener gives the server the connections that turned out to be HTTP.
type listener struct {
	*Server
	ended <-chan struct{}
}

func (l listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.ended:
		return nil, net.ErrClosed
	}
}

func (l listener) Close() error   { return nil }
func (l listener) Addr() net.Addr { return &net.TCPAddr{} }

// Serve has the server serve a client, of which the first byte was read, until its connection is closed.
func (w *Server) Serve(ctx context.Context, c *clients.Client, first byte) {
	c.SetDeadline(time.Time{})
	wc := &client{Client: c, guard: httpguard.New(c.Conn, first)}
	wc.transport = &http.Transport{
		DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			d, err := reach.ParseDest(addr)
			if err != nil {
				return nil, answer.Errorf(answer.BadRequest, "%v", err)
			}
			return w.router.Open(ctx, "tcp", d)
		},
		DisableCompression:     true,
		MaxIdleConns:           4,
		IdleConnTimeout:        idleTimeout,
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: maxResponseHeader,
	}
	defer wc.transport.CloseIdleConnections()
	wc.forward = &httputil.ReverseProxy{
		Rewrite:        w.rewrite,
		ModifyResponse: w.addVia,
		Transport:      wc.transport,
		FlushInterval:  -1, // a proxy does not know which pauses matter
		ErrorHandler:   w.forwardFailed,
		ErrorLog:       w.server.ErrorLog,
	}
	select {
	case w.conns <- &conn{wc.guard, wc}:
		<-wc.guard.Done()
	case <-w.done:
	}
}

// handle serves one request. ctx is the proxy's.
func (w *Server) handle(ctx context.Context, rw http.ResponseWriter, r *http.Request) {
	c := r.Context().Value(clientKey{}).(*client)
	r, done := c.outlive(ctx, r)
	defer done()
	raw, forward := httpguard.TakeTarget(r)
	if refused := c.guard.Refused(); refused != nil && r.Method == httpguard.RefusedMethod {
		w.say(rw, refused.Status, "http_request_error", refused.Reason)
		return
	}
	if r.Method != http.MethodConnect && !r.URL.IsAbs() {
		w.serveOwn(rw, r, c)
		return
	}
	if !w.authorized(r, "Proxy-Authorization", c) {
		rw.Header().Set("Proxy-Authenticate", `Basic realm="ztm proxy"`)
		w.say(rw, http.StatusProxyAuthRequired, "http_request_denied", "this proxy wants a user and a password")
		return
	}
	if err := w.checkHops(r); err != nil {
		w.say(rw, http.StatusLoopDetected, "proxy_loop_detected", err.Error())
		return
	}
	if r.Method == http.MethodConnect {
		w.connect(ctx, rw, r, c)
		return
	}
	if !forward {
		w.fail(rw, answer.Errorf(answer.BadRequest, "want an http URL; for others, CONNECT"))
		return
	}
	w.forwardRequest(rw, r, c, raw)
}

// halfClosedTimeout is how long nothing may come for a client that has ended its direction.
const halfClosedTimeout = time.Minute

// outlive gives a request a context that goes on when the client ends its direction, which net/http takes for the end
// of the client: one that has no more to say still reads. It is not told from one that is gone before something is
// written to it, so it ends after a while in which nothing was.
func (c *client) outlive(ctx context.Context, r *http.Request) (_ *http.Request, done func()) {
	own, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
	stopAll := context.AfterFunc(ctx, cancel)
	stop := context.AfterFunc(r.Context(), func() {
		if c.guard.Ended() {
			relay.WaitSilent(own, &c.written, halfClosedTimeout)
		}
		cancel()
	})
	return r.WithContext(own), func() { stop(); stopAll(); cancel() }
}

// authorized checks the password in a field of Basic authentication (RFC 7617), if one is needed.
func (w *Server) authorized(r *http.Request, field string, c *client) bool {
	if !w.clients.Required() {
		return true
	}
	values := r.Header[field]
	if len(values) != 1 {
		return false
	}
	scheme, encoded, _ := strings.Cut(values[0], " ")
	decoded, err := base64.StdEncoding.DecodeString(strings.TrimSpace(encoded))
	if !strings.EqualFold(scheme, "Basic") || err != nil {
		return false
	}
	user, password, ok := strings.Cut(string(decoded), ":")
	return ok && w.clients.Admit(r.Context(), c.Client, user, password)
}

// checkHops refuses requests that were here before, or that wander.
func (w *Server) checkHops(r *http.Request) error {
	hops := 0
	for _, line := range r.Header["Via"] {
		for hop := range strings.SplitSeq(line, ",") {
			words := strings.Fields(hop)
			if len(words) >= 2 && words[1] == w.via {
				return errors.New("this request came through this proxy already")
			}
			hops++
		}
	}
	if hops > maxHops {
		return fmt.Errorf("this request came through more than %d proxies", maxHops)
	}
	return nil
}

// connect serves CONNECT.
func (w *Server) connect(ctx context.Context, rw http.ResponseWriter, r *http.Request, c *client) {
	d, err := reach.ParseDest(r.RequestURI)
	if err != nil {
		w.fail(rw, answer.Errorf(answer.BadRequest, "%v", err))
		return
	}
	target, err := w.router.Open(ctx, "tcp", d)
	if err != nil {
		w.fail(rw, err)
		return
	}
	defer target.Close()
	early, err := takeOver(rw, c)
	defer c.guard.Close()
	if err != nil {
		return
	}
	if _, err := c.Write([]byte("HTTP/1.1 200 Connection established\r\n\r\n")); err != nil {
		return
	}
	if _, err := target.Write(early); err != nil {
		return
	}
	w.clients.Join(ctx, c.Client, target)
}

// takeOver takes the connection away from the HTTP server. early is what the client sent after the request.
func takeOver(rw http.ResponseWriter, c *client) (early []byte, err error) {
	_, buffered, err := http.NewResponseController(rw).Hijack()
	if err != nil {
		return nil, err
	}
	c.guard.Release()
	early = make([]byte, buffered.Reader.Buffered())
	if _, err := io.ReadFull(buffered, early); err != nil {
		return nil, err
	}
	return append(early, c.guard.Remainder()...), nil
}

// forwardRequest serves a request in absolute form. raw is its path and query.
func (w *Server) forwardRequest(rw http.ResponseWriter, r *http.Request, c *client, raw string) {
	switch {
	case r.URL.User != nil:
		// "the recipient should parse for userinfo and treat its presence as an error" (RFC 9110 section 4.2.4)
		w.fail(rw, answer.Errorf(answer.BadRequest, "the URL has a user in it"))
		return
	case r.Method == http.MethodTrace:
		w.say(rw, http.StatusMethodNotAllowed, "http_request_denied", "TRACE is not forwarded")
		return
	}
	port := r.URL.Port()
	if port == "" {
		port = defaultHTTPPort
	}
	if _, err := reach.ParseDest(net.JoinHostPort(r.URL.Hostname(), port)); err != nil {
		w.fail(rw, answer.Errorf(answer.BadRequest, "%v", err))
		return
	}
	if r.Method == http.MethodOptions && r.Header.Get("Max-Forwards") == "0" {
		rw.Header().Set("Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, CONNECT")
		rw.WriteHeader(http.StatusNoContent)
		return
	}
	whole := false
	defer func() {
		if !whole { // the response broke off: to a client that waits for the end of the connection, an end would be a lie
			splice.Abort(c.Conn)
		}
	}()
	c.forward.ServeHTTP(&response{rw, c}, r.WithContext(context.WithValue(r.Context(), rawKey{}, raw)))
	whole = true
}

// response tells the guard when the connection becomes another protocol (101 Switching Protocols), and keeps the
// server from giving a Content-Type or a Date that the target did not give.
type response struct {
	http.ResponseWriter
	client *client
}

func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *response) WriteHeader(status int) {
	for _, name := range []string{"Content-Type", "Date"} {
		if _, given := w.Header()[name]; !given {
			w.Header()[name] = nil
		}
	}
	w.client.written.Add(1)
	w.ResponseWriter.WriteHeader(status)
}

func (w *response) Write(b []byte) (int, error) {
	w.client.written.Add(1)
	return w.ResponseWriter.Write(b)
}

func (w *response) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffered, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err == nil {
		w.client.guard.Release()
	}
	return conn, buffered, err
}

// rewrite makes the request that the target gets. ReverseProxy has taken away the fields that are for this hop alone
// and those that servers behind a proxy of their own trust; this is a proxy of the client, so it gives the latter back.
func (w *Server) rewrite(pr *httputil.ProxyRequest) {
	raw, _ := pr.In.Context().Value(rawKey{}).(string)
	httpguard.SetTarget(pr.Out.URL, pr.In.Method, raw)
	pr.Out.Trailer = pr.In.Trailer // not a copy: the values come after the body
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
		if v := pr.In.Header[name]; v != nil && !namedInConnection(pr.In.Header, name) {
			pr.Out.Header[name] = v
		}
	}
	if n, err := strconv.Atoi(pr.In.Header.Get("Max-Forwards")); err == nil && n > 0 && pr.In.Method == http.MethodOptions {
		pr.Out.Header.Set("Max-Forwards", strconv.Itoa(n-1))
	}
	pr.Out.Header.Add("Via", fmt.Sprintf("%d.%d %s", pr.In.ProtoMajor, pr.In.ProtoMinor, w.via))
}

func namedInConnection(h http.Header, name string) bool {
	return slices.ContainsFunc(h["Connection"], func(line string) bool {
		return slices.ContainsFunc(strings.Split(line, ","), func(field string) bool {
			return strings.EqualFold(textproto.TrimString(field), name)
		})
	})
}

func (w *Server) addVia(r *http.Response) error {
	r.Header.Add("Via", fmt.Sprintf("%d.%d %s", r.ProtoMajor, r.ProtoMinor, w.via))
	return nil
}

// forwardFailed answers a request that could not be forwarded.
func (w *Server) forwardFailed(rw http.ResponseWriter, r *http.Request, err error) {
	c := r.Context().Value(clientKey{}).(*client)
	var known *answer.Error
	switch {
	case c.guard.Spoiled() != nil: // err does not always tell that it was the body
		spoiled := c.guard.Spoiled()
		rw.Header().Set("Connection", "close")
		w.say(rw, spoiled.Status, "http_request_error", spoiled.Reason)
	case errors.As(err, &known):
		w.fail(rw, known)
	default:
		w.say(rw, http.StatusBadGateway, "http_protocol_error", "the target's answer cannot be forwarded")
	}
}

// fail answers with the reason why there is no connection.
func (w *Server) fail(rw http.ResponseWriter, err error) {
	if errors.Is(err, context.Canceled) { // net/http ends a request whose client has half-closed; it may still read
		err = answer.Errorf(answer.Broken, "the client went away before there was an answer")
	}
	code := answer.CodeOf(err)
	status := code.Status()
	switch code {
	case answer.NotFound: // of the way, not of what the client asked for
		status = http.StatusBadGateway
	case answer.Limit:
		status = http.StatusServiceUnavailable
	}
	message := err.Error()
	if code == answer.Internal {
		message = "the proxy failed"
	}
	w.say(rw, status, string(code), message)
}

// say answers in words, and for programs in Proxy-Status (RFC 9209).
func (w *Server) say(rw http.ResponseWriter, status int, code, message string) {
	h := rw.Header()
	h.Set("Proxy-Status", "ztm; error="+code)
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	rw.WriteHeader(status)
	fmt.Fprintln(rw, message)
}
