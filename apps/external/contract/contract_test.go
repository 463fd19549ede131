package contract

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ztm/apps/appstest"
	"ztm/tunnel/answer"
)

func TestMain(m *testing.M) { os.Exit(appstest.Run(m)) }

// asTheAppSeesIt is what the app reads of what a peer sent.
func asTheAppSeesIt(t testing.TB, text string) (*http.Request, error) {
	t.Helper()
	in, head := Limited(strings.NewReader(text))
	r, err := Read(in, head)
	if err != nil {
		return nil, err
	}
	out := Clean(r)
	Caller{ID: "the-id", User: "alice", Source: Peer}.Sign(out.Header)
	var wire bytes.Buffer
	if err := out.Write(&wire); err != nil {
		return nil, err
	}
	seen, err := http.ReadRequest(bufio.NewReader(&wire))
	if err != nil {
		t.Fatalf("the app cannot read %q: %v", wire.String(), err)
	}
	return seen, nil
}

func TestNobodyButTheAgentSaysWhoAsks(t *testing.T) {
	for name, field := range map[string]string{
		"as it is": "Ztm-Peer-User: root", "in lower case": "ztm-peer-user: root", "twice": "Ztm-Peer-User: root\r\nZtm-Peer-User: root",
		"with an underscore": "Ztm_Peer_User: root", "with dots": "Ztm.Peer.User: root", "with other signs": "Ztm~Peer+User: root", "mixed": "zTM-peer_USER: root", "one that is to come": "Ztm-Admin: yes",
		"as if it were of the connection": "Connection: Ztm-Peer-User\r\nZtm-Peer-User: root",
		"dropped by name":                 "Connection: close, Ztm-Peer-Id",
	} {
		t.Run(name, func(t *testing.T) {
			r, err := asTheAppSeesIt(t, "GET /x HTTP/1.1\r\nHost: a\r\n"+field+"\r\n\r\n")
			if err != nil {
				t.Fatal(err)
			}
			for name, values := range r.Header {
				plain := strings.NewReplacer("_", "-", ".", "-", "~", "-", "+", "-").Replace(strings.ToLower(name))
				want := map[string]string{"ztm-peer-user": "alice", "ztm-peer-id": "the-id", "ztm-source": "peer"}[plain]
				if strings.HasPrefix(plain, "ztm") && (len(values) != 1 || values[0] != want) {
					t.Errorf("%s: %q", name, values)
				}
			}
			if r.Header.Get("Ztm-Peer-User") != "alice" || r.Header.Get("Ztm-Peer-Id") != "the-id" {
				t.Errorf("it is not said who asks: %v", r.Header)
			}
		})
	}
}

func TestATrailerSaysNothing(t *testing.T) {
	r, err := asTheAppSeesIt(t, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: Ztm-Peer-User\r\n\r\n3\r\nabc\r\n0\r\nZtm-Peer-User: root\r\n\r\n")
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(r.Body); string(b) != "abc" || err != nil {
		t.Errorf("the body is %q, %v", b, err)
	}
	if len(r.Trailer) > 0 {
		t.Errorf("trailers: %v", r.Trailer)
	}
}

// TestARequestWithABodyIsTheLastOfItsConnection: a program that does not read a body would take it for
// another request, which says itself who asks.
func TestARequestWithABodyIsTheLastOfItsConnection(t *testing.T) {
	for text, last := range map[string]bool{
		"GET / HTTP/1.1\r\nHost: a\r\n\r\n":                                                                             false,
		"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n":                                                        false,
		"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nGET ":                                                    true,
		"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nConnection: keep-alive\r\n\r\nGET ":                          true,
		"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nGET ":       true,
		"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nGET \r\n0\r\n\r\n":                         true,
		"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nGET \r\n0\r\n\r\nGET": true,
	} {
		r, err := asTheAppSeesIt(t, text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
		} else if r.Close != last || last && r.Header.Get("Upgrade") != "" {
			t.Errorf("%q is the last: %v, %v", text, r.Close, r.Header)
		}
	}
}

func TestATargetThatMeansTwoThingsIsRefused(t *testing.T) {
	for _, target := range []string{"/%2e%2e/other/app", "/../x", "/a/./b", "//x", "/a//b", `/a\b`, "/a%5cb", "/a%00b", "/a%0d%0ab", "http://evil/x",
		"*", "x", "", "/%zz", "/a%2f..%2fb", "/%252e%252e/x", "/a?%zz", "/..", "/.", "/a%2fb%2f%2e%2e"} {
		if err := CheckTarget(target); answer.CodeOf(err) != answer.BadRequest {
			t.Errorf("%q: %v", target, err)
		}
	}
	for _, target := range []string{"/", "/a", "/a/", "/a;b", "/a/b?x=1&y=%20", "/%C3%A4", "/a..b/...", "/?", "/a%20b"} {
		if err := CheckTarget(target); err != nil {
			t.Errorf("%q: %v", target, err)
		}
	}
}

func TestARequestThatIsNoneIsRefused(t *testing.T) {
	for _, text := range []string{"", "hello\r\n\r\n", "CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", "GET http://agent/api/meshes HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nA: x\rZtm-Peer-User: root\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nA: x\x0bZtm-Peer-User: root\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", maxHead) + "\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"} {
		if _, err := asTheAppSeesIt(t, text); answer.CodeOf(err) != answer.BadRequest {
			t.Errorf("%.40q: %v", text, err)
		}
	}
}

func TestTheHostIsTheAppsOwn(t *testing.T) {
	r, err := asTheAppSeesIt(t, "GET /a%20b?c=d HTTP/1.1\r\nHost: agent.evil\r\nX-Own: 1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	if err != nil {
		t.Fatal(err)
	}
	if r.Host != "ztm" || r.RequestURI != "/a%20b?c=d" || r.Header.Get("X-Own") != "1" || r.Header.Get("Upgrade") != "websocket" {
		t.Errorf("%s of %s, %v", r.RequestURI, r.Host, r.Header)
	}
}

func TestThePathOfAFlowIsEscapedOnce(t *testing.T) {
	if target, err := Target("a b/ä", url.Values{"x": {"1&2"}}); err != nil || target != "/a%20b/%C3%A4?x=1%262" {
		t.Errorf("%q, %v", target, err)
	}
	if target, err := Target("../other", nil); err == nil {
		t.Errorf("%q", target)
	}
}

func TestAnAppThatDoesNotAnswerIsGivenUp(t *testing.T) {
	for name, far := range map[string]func(net.Conn){
		"never reads":           func(net.Conn) {},
		"never answers":         func(c net.Conn) { io.Copy(io.Discard, c) },
		"answers half a status": func(c net.Conn) { go io.Copy(io.Discard, c); c.Write([]byte("HTTP/1.1 2")) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near, app := net.Pipe()
				go far(app)
				began := time.Now()
				r := &http.Request{Method: "POST", URL: &url.URL{Path: "/"}, Host: "ztm", Header: http.Header{}, Body: io.NopCloser(strings.NewReader("body"))}
				in, head := Limited(near)
				_, err := Exchange(t.Context(), near, in, head, r)
				if answer.CodeOf(err) != answer.Timeout || time.Since(began) > 2*AnswerTimeout {
					t.Errorf("after %v: %v", time.Since(began), err)
				}
				near.Close()
				app.Close()
			})
		})
	}
}

// TestAHeadWithoutAnEndIsNotKept: what a program, or a peer, sends before its answer begins is not
// held in memory without a limit.
func TestAHeadWithoutAnEndIsNotKept(t *testing.T) {
	near, app := net.Pipe()
	defer near.Close()
	go io.Copy(io.Discard, app)
	sent := make(chan int, 1)
	go func() {
		defer app.Close()
		n, line := 0, []byte("X: "+strings.Repeat("x", 1000)+"\r\n")
		io.WriteString(app, "HTTP/1.1 200 OK\r\n")
		for n < 4*maxHead {
			m, err := app.Write(line)
			if n += m; err != nil {
				break
			}
		}
		sent <- n
	}()
	in, head := Limited(near)
	r := &http.Request{Method: "GET", URL: &url.URL{Path: "/"}, Host: "ztm", Header: http.Header{}}
	_, err := Exchange(t.Context(), near, in, head, r)
	near.Close()
	if n := <-sent; answer.CodeOf(err) != answer.Broken || n > 2*maxHead {
		t.Errorf("%d bytes of a head were taken: %v", n, err)
	}
}

// TestABodyMayBeLongerThanAHead: the limit is one of heads.
func TestABodyMayBeLongerThanAHead(t *testing.T) {
	near, app := net.Pipe()
	defer near.Close()
	go io.Copy(io.Discard, app)
	go func() {
		defer app.Close()
		io.WriteString(app, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"+strings.Repeat("x", 4*maxHead))
	}()
	in, head := Limited(near)
	r := &http.Request{Method: "GET", URL: &url.URL{Path: "/"}, Host: "ztm", Header: http.Header{}}
	resp, err := Exchange(t.Context(), near, in, head, r)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(resp.Body); err != nil || len(b) != 4*maxHead {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}

func TestAnExchangeEndsWithItsCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, app := net.Pipe()
		defer near.Close()
		defer app.Close()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		r := &http.Request{Method: "GET", URL: &url.URL{Path: "/"}, Host: "ztm", Header: http.Header{}}
		in, head := Limited(near)
		begun := time.Now()
		_, err := Exchange(ctx, near, in, head, r)
		if took := time.Since(begun); answer.CodeOf(err) != answer.Broken || took != 0 {
			t.Errorf("%v, after %v", err, took)
		}
	})
}

// FuzzRequest: whatever a peer sends, the app reads one request, whose caller is the one that was
// verified.
func FuzzRequest(f *testing.F) {
	f.Add("GET / HTTP/1.1\r\nHost: a\r\nZtm-Peer-User: root\r\n\r\n")
	f.Add("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /b HTTP/1.1\r\n\r\n")
	f.Add("POST /a HTTP/1.0\r\nzTm_x: 1\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := asTheAppSeesIt(t, text)
		if err != nil {
			return
		}
		if r.Host != "ztm" || CheckTarget(r.RequestURI) != nil {
			t.Errorf("%q of %q", r.RequestURI, r.Host)
		}
		for name, values := range r.Header {
			plain := strings.ReplaceAll(strings.ToLower(name), "_", "-")
			if want := map[string]string{"ztm-peer-user": "alice", "ztm-peer-id": "the-id", "ztm-source": "peer"}[plain]; strings.HasPrefix(plain, "ztm-") && (len(values) != 1 || values[0] != want) {
				t.Errorf("%q: %q", name, values)
			}
		}
	})
}
