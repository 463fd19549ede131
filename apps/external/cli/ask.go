package cli

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"ztm/apps"
	"ztm/apps/external"
	"ztm/tunnel/loopback"
)

// An app is asked by a flow that carries one request of HTTP/1.1 and its answer. The agent there
// puts into it who asks.

// reach returns what opens flows to an app.
func (k *client) reach(ctx context.Context, name string) (func(context.Context) (net.Conn, error), error) {
	id, err := k.resolve(ctx, name)
	if err != nil {
		return nil, err
	}
	return k.opens(ctx, id)
}

// opens returns what opens flows to an app of the chosen endpoint.
func (k *client) opens(ctx context.Context, id string) (func(context.Context) (net.Conn, error), error) {
	ep, err := k.Trusted(ctx, "")
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) (net.Conn, error) { return k.Open(ctx, ep.ID, external.Name+"/http/"+id, nil) }, nil
}

// call sends one request and writes the answer.
func (k *client) call(ctx context.Context, name, method, path string, body io.Reader) error {
	u, err := url.ParseRequestURI("/" + strings.TrimPrefix(path, "/"))
	if err != nil {
		return apps.Usagef("the path: %v", err)
	}
	open, err := k.reach(ctx, name)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://ztm", body)
	if err != nil {
		return apps.Usagef("%v", err)
	}
	r.URL.Path, r.URL.RawPath, r.URL.RawQuery = u.Path, u.RawPath, u.RawQuery
	resp, err := roundTrip(open, r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	out := k.Stdout()
	if resp.StatusCode >= http.StatusBadRequest {
		fmt.Fprintf(k.Stderr(), "ztm: the app answers %s\n", apps.Printable(resp.Status))
		out = k.Stderr()
	}
	if _, err := io.Copy(out, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode >= http.StatusBadRequest {
		return &apps.ExitError{Status: 1}
	}
	return nil
}

// maxHead is the longest head of an answer, in bytes.
const maxHead = 64 << 10

// roundTrip sends a request over a flow of its own. Closing the body of the answer ends the flow.
func roundTrip(open func(context.Context) (net.Conn, error), r *http.Request) (*http.Response, error) {
	conn, err := open(r.Context())
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(r.Context(), func() { conn.Close() })
	go r.Write(conn) // ends with the flow
	head := &io.LimitedReader{R: conn, N: maxHead}
	resp, err := http.ReadResponse(bufio.NewReader(head), r)
	head.N = 1 << 62 // the body may be as long as it is
	if err != nil {
		stop()
		conn.Close()
		return nil, fmt.Errorf("the app gave no answer: %w", err)
	}
	resp.Body = &answerBody{resp.Body, func() { stop(); conn.Close() }}
	return resp, nil
}

// answerBody is the body of an answer that ends a flow.
type answerBody struct {
	io.ReadCloser
	end func()
}

func (b *answerBody) Close() error {
	defer b.end()
	return b.ReadCloser.Close()
}

// show serves the pages of an app to one browser, from an origin of their own.
func (k *client) show(ctx context.Context, name, address string) error {
	open, err := k.reach(ctx, name)
	if err != nil {
		return err
	}
	if conn, err := open(ctx); err != nil { // better here than in the browser
		return err
	} else {
		conn.Close()
	}
	ln, err := loopback.Listen(address)
	if err != nil {
		return err
	}
	p := &pages{open: open, code: rand.Text(), cookie: rand.Text()}
	fmt.Fprintf(k.Stderr(), "Open it in a browser of this machine; the address works once:\n")
	fmt.Fprintf(k.Stdout(), "http://%s/?%s=%s\n", ln.Addr(), codeField, p.code)
	return loopback.Serve(ctx, ln, p, slog.New(slog.DiscardHandler))
}

// codeField and cookieName are what a browser shows that it was let in by.
const (
	codeField  = "ztm-code"
	cookieName = "ztm-app"
)

// pages is an app as a browser sees it. Cookies go neither to the app nor from it: other servers of
// this machine have the same ones, whatever their port. An app knows who asks without any.
type pages struct {
	open   func(context.Context) (net.Conn, error)
	cookie string

	mu   sync.Mutex
	code string // "" when it was used; guarded by mu
}

func (p *pages) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if code := r.URL.Query().Get(codeField); code != "" {
		p.enter(w, r, code)
		return
	}
	if !p.known(r) {
		refuse(w, http.StatusForbidden, "Open the address that ztm app open has printed. It works once.")
		return
	}
	out := r.Clone(r.Context())
	out.Header.Del("Cookie")
	out.URL.Scheme, out.URL.Host = "", ""
	out.RequestURI, out.Close = "", true
	resp, err := roundTrip(p.open, out)
	if err != nil {
		refuse(w, http.StatusBadGateway, "The app does not answer: "+apps.Printable(err.Error()))
		return
	}
	defer resp.Body.Close()
	for name, values := range resp.Header {
		w.Header()[name] = values
	}
	for _, name := range []string{"Set-Cookie", "Connection", "Upgrade", "Transfer-Encoding"} {
		w.Header().Del(name)
	}
	w.WriteHeader(resp.StatusCode)
	copyFlushed(w, resp.Body)
}

// refuse says in the browser why there is no page.
func refuse(w http.ResponseWriter, status int, why string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	io.WriteString(w, why+"\n")
}

// copyFlushed passes an answer on as it comes: it may be one of events.
func copyFlushed(w http.ResponseWriter, r io.Reader) {
	buf := make([]byte, 16<<10)
	for {
		n, err := r.Read(buf)
		if _, gone := w.Write(buf[:n]); gone != nil || err != nil {
			if err != nil && !errors.Is(err, io.EOF) {
				panic(http.ErrAbortHandler) // an answer that was cut is no whole one
			}
			return
		}
		http.NewResponseController(w).Flush()
	}
}

// enter lets the browser in that has the code, once.
func (p *pages) enter(w http.ResponseWriter, r *http.Request, code string) {
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
	http.SetCookie(w, &http.Cookie{Name: cookieName, Value: p.cookie, Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode})
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

// known reports whether a request is of the browser that was let in.
func (p *pages) known(r *http.Request) bool {
	for _, c := range r.CookiesNamed(cookieName) {
		if subtle.ConstantTimeCompare([]byte(c.Value), []byte(p.cookie)) == 1 {
			return true
		}
	}
	return false
}
