package web

import (
	"context"
	"crypto/rand"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"ztm/agent/web/websocket"
	"ztm/tunnel/answer"
	"ztm/tunnel/limit"
	"ztm/tunnel/loopback"
)

// Limits of the door.
const (
	headerTimeout  = 10 * time.Second
	bodyTimeout    = time.Minute
	idleTimeout    = time.Minute // between two requests
	maxHeader      = 16 << 10    // bytes
	maxBody        = 4 << 10     // bytes, of requests that the door itself answers
	maxConnections = 128         // without WebSockets
	maxSockets     = 64          // WebSockets
)

// KeyHeader carries the key of a page in every request. A form cannot send it, nor can a page of
// another origin.
const KeyHeader = "Ztm-Console"

// server is the HTTP server of an opening.
func (o *opening) server() *http.Server {
	return &http.Server{
		Handler:           o.guard(o.routes()),
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       bodyTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(o.host.Log.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return o.ctx },
		ConnState:         limit.Connections(maxConnections),
	}
}

// contentPolicy is what a page may do: run our scripts, show our styles, ask this server. N is the nonce.
// A script that wants to turn text into markup fails.
const contentPolicy = "default-src 'none'; script-src 'self'; style-src 'self' 'nonce-N'; img-src 'self' data: blob:; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

type nonceKey struct{}

// guard refuses what does not come from a page of this console, or from its address bar. Every
// answer has the headers that keep others away from it.
func (o *opening) guard(next http.Handler) http.Handler {
	hosts := map[string]bool{}
	for _, h := range []string{"127.0.0.1", "::1", "localhost"} {
		hosts[net.JoinHostPort(h, strconv.Itoa(o.port))] = true
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		nonce := rand.Text()
		h := w.Header()
		h.Set("Content-Security-Policy", strings.ReplaceAll(contentPolicy, "-N'", "-"+nonce+"'"))
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Permissions-Policy", "camera=(), microphone=(), geolocation=(), clipboard-read=(), clipboard-write=(self)")
		h.Set("Cache-Control", "no-store")
		if !hosts[r.Host] {
			http.Error(w, "the console answers at its own address alone: http://127.0.0.1 with its port", http.StatusMisdirectedRequest)
			return
		}
		if !fromHere(r) {
			answer.Fail(w, o.host.Log, answer.Errorf(answer.Denied, "a page of another origin asks"))
			return
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), nonceKey{}, nonce)))
	})
}

// fromHere reports whether a page of this console asks, or a person who follows a link to it. A
// browser says so in Sec-Fetch-Site, and in Origin where it matters; other programs say nothing,
// and have no key. For a WebSocket Origin must be there.
func fromHere(r *http.Request) bool {
	if !loopback.SameOrigin(r) {
		return false
	}
	if websocket.Requested(r) || r.Header.Get("Upgrade") != "" {
		return r.Header.Get("Origin") != ""
	}
	sites := r.Header.Values("Sec-Fetch-Site")
	if len(sites) == 0 || len(sites) == 1 && (sites[0] == "same-origin" || sites[0] == "none") {
		return true
	}
	return r.Method == http.MethodGet && r.URL.Path == "/" && r.Header.Get("Sec-Fetch-Mode") == "navigate" && r.Header.Get("Sec-Fetch-Dest") == "document"
}

// routes are what the door answers.
func (o *opening) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", o.index)
	mux.HandleFunc("GET /pages/{file}", servePage)
	mux.HandleFunc("GET /xterm/{file}", serveFetched)
	mux.HandleFunc("POST /session", o.postSession)
	mux.HandleFunc("GET /live", o.socket(o.live))
	mux.HandleFunc("GET /flow/{mesh}/{ep}/{path...}", o.socket(o.flow))
	keyed := func(pattern string, h func(http.ResponseWriter, *http.Request, *session)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			s := o.sessions.find(r.Header.Get(KeyHeader))
			if s == nil {
				refuseKey(w)
				return
			}
			o.used()
			h(w, r, s)
		})
	}
	keyed("DELETE /session", func(w http.ResponseWriter, _ *http.Request, s *session) {
		o.sessions.drop(s)
		w.WriteHeader(http.StatusNoContent)
		http.NewResponseController(w).Flush() // the door may be shut by what follows
		o.sessions.leave()
	})
	keyed("POST /tickets", o.postTicket)
	keyed("POST /policy/export", o.exportPolicy)
	keyed("POST /policy/check", o.checkPolicy)
	keyed("/api/", o.api)
	return mux
}

// refuseKey says that the page has to be opened anew. The answer is the same for all paths.
func refuseKey(w http.ResponseWriter) {
	http.Error(w, "this page has no key that is good: run ztm console", http.StatusUnauthorized)
}

// admitted is the answer to a code.
type admitted struct {
	Key      string `json:"key"`
	ReadOnly bool   `json:"readOnly"`
	Terminal bool   `json:"terminal"` // the files of the terminal are in this binary
}

func (o *opening) postSession(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Code string `json:"code"`
	}
	err := answer.Decode(r, maxBody, &in)
	var out admitted
	if err == nil {
		var s *session
		if out.Key, s, err = o.sessions.exchange(in.Code); err == nil {
			out.ReadOnly, out.Terminal = s.readOnly, hasTerminal()
		}
	}
	o.used()
	answer.Reply(w, o.host.Log, out, err)
}

// postTicket gives a ticket for a WebSocket, which cannot carry a header.
func (o *opening) postTicket(w http.ResponseWriter, r *http.Request, s *session) {
	var in struct {
		Path string `json:"path"`
	}
	err := answer.Decode(r, maxBody, &in)
	var out struct {
		Ticket string `json:"ticket"`
	}
	if err == nil {
		out.Ticket, err = o.sessions.allot(s, in.Path)
	}
	answer.Reply(w, o.host.Log, out, err)
}

// Subprotocols of a WebSocket: ours, and what carries the ticket. A ticket in the address would be in
// histories and logs.
const (
	protocol     = "ztm"
	ticketPrefix = "ticket."
)

// socket lets a WebSocket in that has a ticket for its path. What it serves ends with the session.
func (o *opening) socket(serve func(context.Context, *http.Request, *session, func() (*websocket.Conn, error))) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s := o.holder(r)
		if s == nil {
			refuseKey(w)
			return
		}
		if s.ctx.Err() != nil || !websocket.Requested(r) {
			answer.Fail(w, o.host.Log, answer.Errorf(answer.BadRequest, "this is for a WebSocket"))
			return
		}
		select {
		case o.sockets <- struct{}{}:
			defer func() { <-o.sockets }()
		default:
			answer.Fail(w, o.host.Log, answer.Errorf(answer.Limit, "the console has %d connections open: close a tab", maxSockets))
			return
		}
		o.used()
		serve(s.ctx, r, s, func() (*websocket.Conn, error) { return websocket.Accept(w, r, protocol) })
	}
}

// holder returns whose ticket a request carries, or nil.
func (o *opening) holder(r *http.Request) *session {
	for _, p := range websocket.Protocols(r) {
		if secret, ok := strings.CutPrefix(p, ticketPrefix); ok {
			return o.sessions.redeem(secret, r.URL.RequestURI())
		}
	}
	return nil
}

// api passes a request on that is allowed.
func (o *opening) api(w http.ResponseWriter, r *http.Request, s *session) {
	if s.readOnly && r.Method != http.MethodGet && r.Method != http.MethodHead {
		answer.Fail(w, o.host.Log, answer.Errorf(answer.Denied, "this console only looks: it was opened with --read-only"))
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	o.allowed.ServeHTTP(w, r.WithContext(ctx))
}
