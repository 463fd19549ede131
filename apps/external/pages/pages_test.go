package pages

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"ztm/apps/appstest"
)

// echoing is an app that answers with the request that it got.
func echoing(context.Context) (net.Conn, error) {
	here, there := net.Pipe()
	go func() {
		defer there.Close()
		r, err := http.ReadRequest(bufio.NewReader(there))
		if err != nil {
			return
		}
		var text strings.Builder
		r.Write(&text)
		resp := &http.Response{StatusCode: http.StatusOK, ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{"Set-Cookie": {"console=stolen"}},
			Body: io.NopCloser(strings.NewReader(text.String())), ContentLength: int64(text.Len()), Close: true}
		resp.Write(there)
	}()
	return here, nil
}

func TestMain(m *testing.M) { os.Exit(appstest.Run(m)) }

func TestOnlyTheBrowserWithTheCodeSeesThePagesOfAnApp(t *testing.T) {
	p := New(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 77}, echoing, "/first")
	_, code, _ := strings.Cut(p.Address(), "=")
	get := func(target, cookie string) *http.Response {
		r := httptest.NewRequest(http.MethodGet, target, nil)
		if cookie != "" {
			r.Header.Set("Cookie", cookie)
		}
		w := httptest.NewRecorder()
		p.ServeHTTP(w, r)
		return w.Result()
	}
	for target, cookie := range map[string]string{"/": "", "/page": p.name + "=other", "/?" + codeField + "=wrong": ""} {
		if resp := get(target, cookie); resp.StatusCode != http.StatusForbidden {
			t.Errorf("%s with cookie %q: %s", target, cookie, resp.Status)
		}
	}
	resp := get("/?"+codeField+"="+code, "")
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Refresh") != "0; url=/first" || len(resp.Cookies()) != 1 || !resp.Cookies()[0].HttpOnly || resp.Cookies()[0].SameSite != http.SameSiteStrictMode {
		t.Fatalf("the code: %s, %v", resp.Status, resp.Header)
	}
	if again := get("/?"+codeField+"="+code, ""); again.StatusCode != http.StatusForbidden {
		t.Errorf("the code once more: %s", again.Status)
	}
	resp = get("/page?x=1", p.name+"="+resp.Cookies()[0].Value+"; console=secret")
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || !strings.HasPrefix(string(body), "GET /page?x=1 ") {
		t.Fatalf("with the cookie: %s, %q, %v", resp.Status, body, err)
	}
	if strings.Contains(string(body), "secret") || strings.Contains(string(body), p.cookie) || resp.Header.Get("Set-Cookie") != "" {
		t.Errorf("a cookie passed: %q, %v", body, resp.Header)
	}
}

// speaking is an app that agrees to a web socket and echoes in capitals.
func speaking(context.Context) (net.Conn, error) {
	here, there := net.Pipe()
	go func() {
		defer there.Close()
		in := bufio.NewReader(there)
		if r, err := http.ReadRequest(in); err != nil || r.Header.Get("Upgrade") != "websocket" || r.Header.Get("Cookie") != "" {
			return
		}
		io.WriteString(there, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSet-Cookie: a=b\r\n\r\nfirst ")
		line, _ := in.ReadString('\n')
		io.WriteString(there, strings.ToUpper(line))
	}()
	return here, nil
}

// chat asks the page of such an app for a web socket, and counts what is written to it.
func chat(t *testing.T) (net.Conn, *counted) {
	t.Helper()
	s := httptest.NewUnstartedServer(nil)
	p := New(s.Listener.Addr(), speaking, "/")
	l := &counted{Listener: s.Listener}
	s.Config.Handler, s.Listener = p, l
	s.Start()
	t.Cleanup(s.Close)
	c, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	io.WriteString(c, "GET /chat HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nCookie: "+p.name+"="+p.cookie+"\r\n\r\n")
	return c, l
}

func TestAWebSocketReachesTheApp(t *testing.T) {
	c, _ := chat(t)
	io.WriteString(c, "hello\n")
	in := bufio.NewReader(c)
	resp, err := http.ReadResponse(in, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols || resp.Header.Get("Set-Cookie") != "" {
		t.Fatalf("%+v, %v", resp, err)
	}
	if text, err := io.ReadAll(in); string(text) != "first HELLO\n" || err != nil {
		t.Errorf("%q, %v", text, err)
	}
}

// counted is a listener whose connections count what is written to them.
type counted struct {
	net.Listener
	writes atomic.Int32
}

func (l *counted) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return countedConn{c.(*net.TCPConn), l}, nil
}

type countedConn struct {
	*net.TCPConn
	of *counted
}

func (c countedConn) Write(p []byte) (int, error) {
	c.of.writes.Add(1)
	return c.TCPConn.Write(p)
}

func TestTheBrowserHasTheAnswerToAWebSocketInOnePiece(t *testing.T) {
	c, l := chat(t)
	in := bufio.NewReader(c)
	if resp, err := http.ReadResponse(in, nil); err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%+v, %v", resp, err)
	}
	_, err := in.Peek(len("first"))
	n := l.writes.Load()
	io.WriteString(c, "\n") // the app ends
	if text, cut := io.ReadAll(in); string(text) != "first \n" || err != nil || cut != nil {
		t.Fatalf("%q, %v, %v", text, err, cut)
	}
	if n > 2 {
		t.Errorf("%d writes, and not one for the answer and one for what came with it", n)
	}
}

func TestAnUploadMayTakeLongerThanTheServerGivesARequest(t *testing.T) {
	begun := make(chan struct{})
	app := func(context.Context) (net.Conn, error) {
		here, there := net.Pipe()
		go func() {
			defer there.Close()
			r, err := http.ReadRequest(bufio.NewReader(there))
			if err != nil {
				return
			}
			close(begun)
			if body, err := io.ReadAll(r.Body); string(body) != "late" || err != nil {
				return
			}
			io.WriteString(there, "HTTP/1.1 204 No Content\r\n\r\n")
		}()
		return here, nil
	}
	s := httptest.NewUnstartedServer(nil)
	p := New(s.Listener.Addr(), app, "/")
	s.Config.Handler = p
	s.Config.ReadHeaderTimeout, s.Config.ReadTimeout, s.Config.WriteTimeout = time.Hour, time.Nanosecond, time.Nanosecond
	s.Start()
	defer s.Close()
	body, upload := io.Pipe()
	defer body.Close()
	go func() {
		<-begun
		io.WriteString(upload, "late")
		upload.Close()
	}()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+"/upload", body)
	if err != nil {
		t.Fatal(err)
	}
	r.AddCookie(&http.Cookie{Name: p.name, Value: p.cookie})
	resp, err := s.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusNoContent {
		t.Errorf("the answer is %s", resp.Status)
	}
}
