// Package contract is how a request of a peer reaches an app of others: as HTTP/1.1 (RFC 9112) that
// says who asks, in fields that nobody but the agent can set.
//
//	bytes of a peer -> Read: one request, of bounded size -> Clean: what it may not say is taken away
//	                -> Caller.Sign: who asks -> Exchange: the app's answer, within a time -> bytes for the peer
//
// A peer chooses the app by the path of its flow, never by what is in the request: whatever the
// target of a request is, it goes to that app. Fields that begin with "Ztm-" are the agent's, in any
// case and with any sign for "-", as gateways of scripts do not tell them apart; trailers are dropped.
// A request with a body is the last of its connection: a program that leaves the body unread would
// take it for the next request, with fields that the peer wrote.
package contract

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
)

// maxHead is the longest head of a request or an answer, in bytes.
const maxHead = 64 << 10

// AnswerTimeout is how long an app may take for the head of its answer while the request does not
// move.
const AnswerTimeout = 60 * time.Second

// Upgrades of a request that is a flow of bytes, or of datagrams as capsules (RFC 9297).
const (
	Stream    = "ztm"
	Datagrams = "ztm-datagram"
)

// Source says from where a request comes.
type Source string

// The sources.
const (
	Self Source = "self" // this endpoint
	User Source = "user" // another endpoint of the same user
	Peer Source = "peer" // an endpoint of another user
)

// Caller is who asks, from the verified certificate of the session.
type Caller struct {
	ID     identity.ID
	User   string
	Source Source
}

// Sign says in a request who asks. The request has to be clean.
func (c Caller) Sign(h http.Header) {
	h.Set("Ztm-Peer-Id", string(c.ID))
	h.Set("Ztm-Peer-User", c.User)
	h.Set("Ztm-Source", string(c.Source))
}

// CheckTarget checks the target of a request, as it stands in its first line. It has to be a path,
// with a query or none, that means one thing to everybody who takes it apart.
func CheckTarget(target string) error {
	bad := func(why string) error {
		return answer.Errorf(answer.BadRequest, "the path %.100q %s", target, why)
	}
	if !strings.HasPrefix(target, "/") {
		return bad("does not begin with a slash")
	}
	if strings.ContainsFunc(target, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '#' || r == '\\' }) {
		return bad("has characters that have to be escaped")
	}
	raw, query, _ := strings.Cut(target, "?")
	path, err := url.PathUnescape(raw)
	if err != nil {
		return bad("is not escaped as it should be")
	}
	if _, err := url.QueryUnescape(query); err != nil {
		return bad("has a query that is not escaped as it should be")
	}
	if strings.ContainsFunc(path, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\\' }) {
		return bad("has control characters or a backslash")
	}
	for i, part := range strings.Split(path, "/") {
		// What is escaped once more may be taken apart once more.
		again, err := url.PathUnescape(part)
		if err == nil && (again == "." || again == ".." || strings.ContainsAny(again, "/\\")) {
			return bad("has a part that leads elsewhere")
		}
		if part == "" && i > 0 && i < strings.Count(path, "/") {
			return bad("has an empty part")
		}
	}
	return nil
}

// Target makes the target of a request from the path of a flow, which is not escaped, and its query.
func Target(path string, query url.Values) (string, error) {
	u := url.URL{Path: "/" + path, RawQuery: query.Encode()}
	target := u.RequestURI()
	return target, CheckTarget(target)
}

// Read reads one request. What comes behind its head is its body. Errors are *[answer.Error].
func Read(in *bufio.Reader, head *io.LimitedReader) (*http.Request, error) {
	r, err := http.ReadRequest(in)
	if err != nil {
		return nil, answer.Errorf(answer.BadRequest, "this is no request: %v", err)
	}
	head.N = noLimit // the body may be as long as it is
	if r.Method == http.MethodConnect || r.ProtoMajor != 1 {
		return nil, answer.Errorf(answer.BadRequest, "a request is of HTTP/1.1, and connects to nothing")
	}
	if err := CheckTarget(r.RequestURI); err != nil {
		return nil, err
	}
	for name, values := range r.Header {
		if slices.ContainsFunc(values, hasControl) {
			return nil, answer.Errorf(answer.BadRequest, "the field %.100q has control characters", name)
		}
	}
	return r, nil
}

// hasControl reports whether a value has a sign that some parser may take for the end of its line.
func hasControl(value string) bool {
	return strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f })
}

// Answer reads the head of the answer to a request. What comes behind it is its body.
func Answer(in *bufio.Reader, head *io.LimitedReader, r *http.Request) (*http.Response, error) {
	resp, err := http.ReadResponse(in, r)
	head.N = noLimit
	return resp, err
}

const noLimit = 1 << 62

// Limited is the reader that [Read] and [Answer] read a head through.
func Limited(r io.Reader) (*bufio.Reader, *io.LimitedReader) {
	head := &io.LimitedReader{R: r, N: maxHead}
	return bufio.NewReader(head), head
}

// hop are the fields that are about one connection (RFC 9110 section 7.6.1).
var hop = []string{"Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Proxy-Connection", "Te", "Trailer",
	"Transfer-Encoding", "Upgrade", "Expect", "Http2-Settings"}

// Clean returns a request for the app that says of r what it may. Nothing of it is r's but the body.
func Clean(r *http.Request) *http.Request {
	out := &http.Request{Method: r.Method, URL: &url.URL{Path: r.URL.Path, RawPath: r.URL.RawPath, RawQuery: r.URL.RawQuery},
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: CleanHeader(r.Header), Host: "ztm", Body: r.Body, ContentLength: r.ContentLength}
	out.Close = r.Body != http.NoBody
	if protocol := upgrade(r.Header); protocol != "" && !out.Close { // else it would say that the connection goes on
		out.Header.Set("Connection", "Upgrade")
		out.Header.Set("Upgrade", protocol)
	}
	if _, named := out.Header["User-Agent"]; !named {
		out.Header["User-Agent"] = nil // none, rather than Go's
	}
	return out
}

// CleanHeader returns what a peer may say.
func CleanHeader(h http.Header) http.Header {
	dropped := slices.Clone(hop)
	for _, list := range h["Connection"] {
		for _, name := range strings.Split(list, ",") {
			dropped = append(dropped, textproto.CanonicalMIMEHeaderKey(strings.TrimSpace(name)))
		}
	}
	out := http.Header{}
	for name, values := range h {
		if !slices.Contains(dropped, textproto.CanonicalMIMEHeaderKey(name)) && !reserved(name) {
			out[name] = slices.Clone(values)
		}
	}
	return out
}

// reserved reports whether the agent alone may set a field.
func reserved(name string) bool {
	name = strings.Map(func(r rune) rune {
		if 'a' <= r && r <= 'z' || '0' <= r && r <= '9' {
			return r
		}
		return '-'
	}, strings.ToLower(name))
	return strings.HasPrefix(name, "ztm-") || name == "ztm" || name == "host"
}

// upgrade returns the protocol that a request wants to go on with, "" for none.
func upgrade(h http.Header) string {
	for _, list := range h["Connection"] {
		for _, name := range strings.Split(list, ",") {
			if strings.EqualFold(strings.TrimSpace(name), "upgrade") {
				return h.Get("Upgrade")
			}
		}
	}
	return ""
}

// Exchange sends a request to an app and returns the head of its answer. What comes behind it is to
// be read from in. An app that does not read or answer for [AnswerTimeout] gives an
// *[answer.Error]; ctx ends the exchange.
func Exchange(ctx context.Context, app net.Conn, in *bufio.Reader, head *io.LimitedReader, out *http.Request) (*http.Response, error) {
	t := &timer{conn: app}
	t.move()
	defer context.AfterFunc(ctx, func() { t.end() })()
	if out.Body == nil || out.Body == http.NoBody {
		out.Write(app) // an app that is gone or does not read gives no answer either
	} else {
		out.Body = &moving{ReadCloser: out.Body, t: t}
		go out.Write(app) // ends with the connection
	}
	head.N = maxHead
	resp, err := Answer(in, head, out)
	if err != nil {
		late := time.Now().UnixNano() >= t.until.Load()
		t.end()
		return nil, failure(ctx, late)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols && resp.StatusCode < 200 {
		return nil, answer.Errorf(answer.Broken, "the app answers %d", resp.StatusCode)
	}
	t.stop()
	return resp, nil
}

// failure is why there was no answer.
func failure(ctx context.Context, late bool) error {
	switch {
	case ctx.Err() != nil:
		return answer.Errorf(answer.Broken, "the flow was ended before the app answered")
	case late:
		return answer.Errorf(answer.Timeout, "the app does not answer")
	}
	return answer.Errorf(answer.Broken, "the app ended before it answered")
}

// timer ends a connection that does not move.
type timer struct {
	conn  net.Conn
	until atomic.Int64 // Unix nanoseconds
	over  atomic.Bool  // the answer is there, or all has ended
}

func (t *timer) move() {
	if !t.over.Load() {
		until := time.Now().Add(AnswerTimeout)
		t.until.Store(until.UnixNano())
		t.conn.SetDeadline(until)
	}
}

func (t *timer) stop() {
	t.over.Store(true)
	t.conn.SetDeadline(time.Time{})
}

func (t *timer) end() {
	t.over.Store(true)
	t.conn.SetDeadline(time.Unix(1, 0))
}

// moving is a body that moves a timer.
type moving struct {
	io.ReadCloser
	t *timer
}

func (m *moving) Read(p []byte) (int, error) {
	n, err := m.ReadCloser.Read(p)
	if n > 0 {
		m.t.move()
	}
	return n, err
}
