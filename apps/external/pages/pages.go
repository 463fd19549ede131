// Package pages shows the pages of an app to one browser of this machine, from an origin of their
// own.
//
//	address with a code, once -> cookie -> request, without cookies -> a flow to the app -> its answer, without cookies
//
// What the pages of an app run in the browser reaches that app alone: another app, or the console, is
// another origin.
package pages

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"fmt"
	"html"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"ztm/apps"
	"ztm/apps/external/contract"
	"ztm/tunnel/splice"
)

// RoundTrip sends a request over a flow of its own. Closing the body of the answer ends the flow.
func RoundTrip(open func(context.Context) (net.Conn, error), r *http.Request) (*http.Response, error) {
	e, err := begin(open, r)
	if err != nil {
		return nil, err
	}
	e.resp.Body = e
	return e.resp, nil
}

// exchange is a flow to an app behind the head of the answer. It is the body of the answer.
type exchange struct {
	io.ReadCloser
	conn net.Conn
	in   *bufio.Reader // of conn
	resp *http.Response
	stop func() bool
}

// begin opens a flow, sends a request and reads the head of the answer.
func begin(open func(context.Context) (net.Conn, error), r *http.Request) (*exchange, error) {
	conn, err := open(r.Context())
	if err != nil {
		return nil, err
	}
	e := &exchange{conn: conn, stop: context.AfterFunc(r.Context(), func() { conn.Close() })}
	go r.Write(conn) // ends with the flow
	in, head := contract.Limited(conn)
	if e.resp, err = contract.Answer(in, head, r); err != nil {
		e.stop()
		conn.Close()
		return nil, fmt.Errorf("the app gave no answer: %w", err)
	}
	e.in, e.ReadCloser = in, e.resp.Body
	return e, nil
}

// Close ends the flow.
func (e *exchange) Close() error {
	err := e.ReadCloser.Close()
	e.stop()
	e.conn.Close()
	return err
}

// codeField and cookieName are what a browser shows that it was let in by.
const (
	codeField  = "ztm-code"
	cookieName = "ztm-app-" // and the port: a browser has the same cookies for all of them
)

// Pages is an app as a browser sees it, an [http.Handler]. Cookies go neither to the app nor from it:
// other servers of this machine have the same ones, whatever their port. An app knows who asks
// without any. Make it with [New].
type Pages struct {
	open    func(context.Context) (net.Conn, error)
	first   string // path of the page that is shown first
	address string // where it is served, as a URL
	name    string // of the cookie
	cookie  string

	mu   sync.Mutex
	code string // "" when it was used; guarded by mu
}

// New makes the pages of an app to which open opens flows of the kind "http". They are to be served
// at a port of this machine; first is the path of the page that is shown first.
func New(at net.Addr, open func(context.Context) (net.Conn, error), first string) *Pages {
	p := &Pages{open: open, first: first, code: rand.Text(), cookie: rand.Text()}
	p.address = fmt.Sprintf("http://%s/?%s=%s", at, codeField, p.code)
	_, port, _ := net.SplitHostPort(at.String())
	p.name = cookieName + port
	return p
}

// Address returns what a browser is to open. It works once.
func (p *Pages) Address() string { return p.address }

func (p *Pages) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if code := r.URL.Query().Get(codeField); code != "" {
		p.enter(w, code)
		return
	}
	if !p.known(r) {
		refuse(w, http.StatusForbidden, "Open the address that ztm app open has printed. It works once.")
		return
	}
	// The server has few seconds for a request of anybody. This browser may upload what it likes, and
	// listen to a stream for as long as it likes.
	server := http.NewResponseController(w)
	server.SetReadDeadline(time.Time{})
	server.SetWriteDeadline(time.Time{})
	out := r.Clone(r.Context())
	out.Header.Del("Cookie")
	out.URL.Scheme, out.URL.Host = "", ""
	out.RequestURI, out.Close = "", r.Header.Get("Upgrade") == ""
	if out.Close {
		out.Header.Del("Connection") // that of the browser is with us
	}
	e, err := begin(p.open, out)
	if err != nil {
		refuse(w, http.StatusBadGateway, "The app does not answer: "+apps.Printable(err.Error()))
		return
	}
	defer e.Close()
	e.resp.Header.Del("Set-Cookie")
	if e.resp.StatusCode == http.StatusSwitchingProtocols {
		e.join(r.Context(), w)
		return
	}
	for name, values := range e.resp.Header {
		w.Header()[name] = values
	}
	for _, name := range []string{"Connection", "Upgrade", "Transfer-Encoding"} {
		w.Header().Del(name)
	}
	w.WriteHeader(e.resp.StatusCode)
	contract.CopyAnswer(w, e)
}

// join gives the browser the flow that goes on behind the answer: a web socket.
func (e *exchange) join(ctx context.Context, w http.ResponseWriter) {
	c, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		refuse(w, http.StatusInternalServerError, err.Error())
		return
	}
	defer c.Close()
	c.SetDeadline(time.Time{}) // of the server, for requests
	e.resp.Body = http.NoBody
	if contract.Send(c, e.resp, e.in) == nil {
		splice.Join(ctx, contract.Buffered(c, rw.Reader), contract.Buffered(e.conn, e.in))
	}
}

// refuse says in the browser why there is no page.
func refuse(w http.ResponseWriter, status int, why string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	io.WriteString(w, why+"\n")
}

// enter lets the browser in that has the code, once.
func (p *Pages) enter(w http.ResponseWriter, code string) {
	p.mu.Lock()
	ok := p.code != "" && subtle.ConstantTimeCompare([]byte(p.code), []byte(code)) == 1
	if ok {
		p.code = ""
	}
	p.mu.Unlock()
	if !ok {
		refuse(w, http.StatusForbidden, "This address was used already. For another one: ztm app open")
		return
	}
	http.SetCookie(w, &http.Cookie{Name: p.name, Value: p.cookie, Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode})
	header := w.Header()
	header.Set("Content-Type", "text/html; charset=utf-8")
	header.Set("Cache-Control", "no-store")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("Refresh", "0; url="+p.first)
	fmt.Fprintf(w, entered, html.EscapeString(p.first))
}

// entered leads to the first page. A redirect would not do: it is part of the navigation from the
// console, which is another site, so a browser sends no strict cookie with it. What this page begins
// is of its own site.
const entered = "<!DOCTYPE html>\n<title>ztm</title>\n<p><a href=\"%s\">Open the app</a></p>\n"

// known reports whether a request is of the browser that was let in.
func (p *Pages) known(r *http.Request) bool {
	for _, c := range r.CookiesNamed(p.name) {
		if subtle.ConstantTimeCompare([]byte(c.Value), []byte(p.cookie)) == 1 {
			return true
		}
	}
	return false
}
