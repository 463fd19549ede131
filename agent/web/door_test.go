package web

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ztm/agent/api"
	"ztm/agent/web/websocket"
)

// everywhere are paths of all kinds that the door answers.
var everywhere = []string{"/", "/pages/main.js", "/xterm/xterm.js", "/session", "/tickets", "/policy/check", "/live", "/flow/demo/x/terminal/shell", "/api/meshes", "/api/nothing", "/nothing"}

func TestTheConsoleAnswersAtItsOwnAddressAlone(t *testing.T) {
	p := newBench(t).enter(api.Console{})
	port := p.origin[strings.LastIndex(p.origin, ":"):]
	for _, path := range everywhere {
		for _, host := range []string{"evil.example" + port, "x.localhost" + port, "0.0.0.0" + port, "127.0.0.1.evil.example" + port, "127.0.0.2" + port,
			"127.0.0.1", "127.0.0.1:1", "localhost:1", "[::]" + port, "LOCALHOST.evil" + port, "2130706433" + port} {
			if status, _ := p.send("GET", path, "", "Host", host); status != http.StatusMisdirectedRequest {
				t.Errorf("%s of host %q: status %d", path, host, status)
			}
		}
	}
	for _, host := range []string{"127.0.0.1", "[::1]", "localhost"} {
		if status, _ := p.send("GET", "/api/meshes", "", "Host", host+port); status != 200 {
			t.Errorf("host %s: status %d", host, status)
		}
	}
}

func TestARequestWithoutAHostGetsAnErrorAndNothingElse(t *testing.T) {
	p := newBench(t).enter(api.Console{})
	for _, lines := range []string{"GET /api/meshes HTTP/1.0\r\nZtm-Console: " + p.key + "\r\n\r\n", "GET / HTTP/1.0\r\n\r\n"} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(p.origin, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(conn, lines)
		b, _ := io.ReadAll(conn)
		conn.Close()
		if !strings.Contains(string(b), " 421 ") {
			t.Errorf("%q: %.60q", lines, b)
		}
	}
}

func TestPagesOfOtherOriginsAreRefused(t *testing.T) {
	p := newBench(t).enter(api.Console{})
	for _, h := range [][]string{
		{"Origin", "http://127.0.0.1:1"}, {"Origin", "null"}, {"Origin", "https://evil.example"}, {"Origin", strings.Replace(p.origin, "http", "https", 1)},
		{"Origin", p.origin, "Origin", "http://evil.example"},
		{"Sec-Fetch-Site", "same-site"}, {"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-origin", "Sec-Fetch-Site", "cross-site"},
		{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"},
	} {
		for _, path := range everywhere[1:] {
			if status, _ := p.send("GET", path, "", h...); status != http.StatusForbidden {
				t.Errorf("%s with %v: status %d", path, h, status)
			}
		}
	}
	if n := p.asked.Load(); n != 0 {
		t.Errorf("%d requests reached the agent", n)
	}
	// A person who follows a link from elsewhere sees the page, and a frame of elsewhere does not.
	if status, _ := p.send("GET", "/", "", "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"); status != 200 {
		t.Errorf("a link: status %d", status)
	}
	if status, _ := p.send("GET", "/", "", "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "iframe"); status != 403 {
		t.Errorf("a frame: status %d", status)
	}
	if status, _ := p.send("GET", "/api/meshes", "", "Origin", p.origin, "Sec-Fetch-Site", "same-origin"); status != 200 {
		t.Errorf("the page itself: status %d", status)
	}
}

func TestWithoutTheKeyAllPathsAnswerAlike(t *testing.T) {
	p := newBench(t).enter(api.Console{})
	good := p.key
	for _, key := range []string{"", "x", good[:len(good)-1], good + "x", strings.ToLower(good)} {
		p.key = key
		_, first := p.send("GET", "/api/meshes", "")
		for _, method := range []string{"GET", "POST", "DELETE"} {
			for _, path := range []string{"/api/meshes", "/api/meshes/demo/ca", "/api/nothing"} {
				if status, body := p.send(method, path, ""); status != http.StatusUnauthorized || body != first {
					t.Errorf("%s %s with the key %q: %d %s", method, path, key, status, body)
				}
			}
		}
	}
	if n := p.asked.Load(); n != 0 {
		t.Errorf("%d requests reached the agent", n)
	}
}

func TestNoAnswerInvitesAnotherOrigin(t *testing.T) {
	b := newBench(t)
	origin, _ := b.invited(api.Console{})
	nonces := map[string]bool{}
	for _, path := range everywhere {
		resp, err := http.Get(origin + path)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		h := resp.Header
		csp := h.Get("Content-Security-Policy")
		for _, want := range []string{"default-src 'none'", "script-src 'self';", "frame-ancestors 'none'", "require-trusted-types-for 'script'", "trusted-types 'none'"} {
			if !strings.Contains(csp, want) {
				t.Errorf("%s: policy %q", path, csp)
			}
		}
		_, nonce, _ := strings.Cut(csp, "'nonce-")
		nonce, _, _ = strings.Cut(nonce, "'")
		if len(nonce) < 26 || nonces[nonce] {
			t.Errorf("%s: nonce %q", path, nonce)
		}
		nonces[nonce] = true
		if path == "/" && !strings.Contains(string(body), nonce) {
			t.Error("the page does not know its nonce")
		}
		if h.Get("Cross-Origin-Opener-Policy") != "same-origin" || h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Referrer-Policy") != "no-referrer" {
			t.Errorf("%s: header %v", path, h)
		}
		for name := range h {
			if strings.HasPrefix(name, "Access-Control-") || name == "Set-Cookie" {
				t.Errorf("%s: header %s", path, name)
			}
		}
	}
}

func TestAWebSocketOpensNothingUnlessThePageItselfAsks(t *testing.T) {
	p := newBench(t).enter(api.Console{})
	path := "/flow/demo/" + string(someID) + "/terminal/shell"
	for _, h := range [][]string{nil, {"Origin", "null"}, {"Origin", "http://127.0.0.1:1"}, {"Origin", "http://evil.example"}} {
		if status, _ := p.upgrade(path, append(h, "Sec-WebSocket-Protocol", "ztm, ticket."+p.ticket(path))...); status != http.StatusForbidden {
			t.Errorf("%v: status %d", h, status)
		}
	}
	if len(p.flows) > 0 {
		t.Error("a flow was opened")
	}
}

func TestATicketIsGoodOnceForItsPathAndItsSession(t *testing.T) {
	b := newBench(t)
	p, other := b.enter(api.Console{}), b.enter(api.Console{})
	path := "/flow/demo/" + string(someID) + "/terminal/shell"
	try := func(path, ticket string) int {
		status, _ := p.upgrade(path, "Origin", p.origin, "Sec-WebSocket-Protocol", "ztm, ticket."+ticket)
		return status
	}
	good := p.ticket(path)
	if status := try(path, good); status != 101 {
		t.Errorf("a ticket: status %d", status)
	}
	if status := try(path, good); status != 401 {
		t.Errorf("a ticket that was used: status %d", status)
	}
	if status := try("/live", p.ticket(path)); status != 401 {
		t.Errorf("a ticket for another path: status %d", status)
	}
	if status := try(path+"?x=1", p.ticket(path)); status != 401 {
		t.Errorf("a ticket for another query: status %d", status)
	}
	if status := try(path, p.key); status != 401 {
		t.Errorf("the key in the place of a ticket: status %d", status)
	}
	late := other.ticket(path)
	if status, _ := other.send("DELETE", "/session", ""); status != 204 {
		t.Fatalf("the session does not end: status %d", status)
	}
	if status := try(path, late); status != 401 {
		t.Errorf("a ticket of a session that has ended: status %d", status)
	}
}

func TestACodeIsGoodOnce(t *testing.T) {
	b := newBench(t)
	origin, code := b.invited(api.Console{})
	p := &browser{bench: b, origin: origin}
	var good atomic.Int64
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			req, _ := http.NewRequestWithContext(t.Context(), "POST", origin+"/session", strings.NewReader(`{"code":"`+code+`"}`))
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				return // the door has a limit of connections
			}
			resp.Body.Close()
			if resp.StatusCode == 200 {
				good.Add(1)
			}
		})
	}
	wg.Wait()
	if good.Load() != 1 {
		t.Errorf("%d keys for one code", good.Load())
	}
	for _, body := range []string{`{"code":""}`, `{}`, `{"code":"` + code + `"}`, ``, `[]`, `{"code":"x","more":1}`} {
		if status, answer := p.send("POST", "/session", body); status < 400 || strings.Contains(answer, "key\"") {
			t.Errorf("%s: %d %s", body, status, answer)
		}
	}
}

func TestCodesAndTicketsGrowOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s sessions
		s.begin(t.Context(), func() {})
		young, _ := s.invite(false)
		old, _ := s.invite(false)
		<-time.After(codeLife - time.Second)
		_, n, err := s.exchange(young)
		if err != nil {
			t.Fatal("a code of less than a minute:", err)
		}
		ticket, _ := s.allot(n, "/live")
		<-time.After(2 * time.Second)
		if _, _, err := s.exchange(old); err == nil {
			t.Error("a code of more than a minute is good")
		}
		if s.redeem(ticket, "/live") != n {
			t.Error("a young ticket is not good")
		}
		ticket, _ = s.allot(n, "/live")
		<-time.After(ticketLife + time.Second)
		if s.redeem(ticket, "/live") != nil {
			t.Error("an old ticket is good")
		}
	})
}

func TestAConsoleThatOnlyLooksChangesNothing(t *testing.T) {
	p := newBench(t).enter(api.Console{ReadOnly: true})
	for _, pattern := range requests {
		method, path, _ := strings.Cut(pattern, " ")
		path = strings.NewReplacer("{mesh}", "demo", "{ep}", string(someID), "{user}", "bob", "{name}", "x", "{path...}", "tunnel/allow").Replace(path)
		before := p.asked.Load()
		status, body := p.send(method, path, "{}")
		if looks := method == "GET"; looks != (status == 200) || looks != (p.asked.Load() > before) || !looks && status != 403 {
			t.Errorf("%s: %d %s", pattern, status, body)
		}
	}
	for path, looks := range flows {
		at := "/flow/demo/" + string(someID) + "/" + path
		want := `"http_request_denied"`
		if looks {
			want = `"open":true`
		}
		p.dial(at).until(t, want)
	}
}

func TestWhatIsNotOnTheListIsRefused(t *testing.T) {
	p := newBench(t).enter(api.Console{})
	for _, request := range []string{
		"GET /api/meshes/demo/ca", "POST /api/meshes/demo/ca", // the key of the mesh
		"POST /api/meshes/demo/permits", "POST /api/console", "GET /api/console", "DELETE /api/console",
		"POST /api/meshes/demo/endpoints/x/flows/terminal/shell", "PATCH /api/meshes", "CONNECT /api/meshes", "GET /api/nothing",
	} {
		method, path, _ := strings.Cut(request, " ")
		if status, body := p.send(method, path, "{}"); status < 400 {
			t.Errorf("%s: %d %s", request, status, body)
		}
	}
	if n := p.asked.Load(); n != 0 {
		t.Errorf("%d requests reached the agent", n)
	}
	for _, path := range []string{"tunnel/tcp/web", "terminal/../script/run", "terminal", "proxy/connect", "TERMINAL/shell"} {
		if status, _ := p.upgrade("/flow/demo/"+string(someID)+"/"+path, "Origin", p.origin, "Sec-WebSocket-Protocol", "ztm, ticket."+p.ticket("/flow/demo/"+string(someID)+"/"+path)); status == 101 && len(p.flows) > 0 {
			t.Errorf("a flow to %s was opened", path)
		}
	}
}

func TestLockEndsAllThatPagesHaveOpened(t *testing.T) {
	b := newBench(t)
	p := b.enter(api.Console{})
	shell := p.dial("/flow/demo/" + string(someID) + "/terminal/shell")
	shell.until(t, `"open":true`)
	stream := p.dial("/live")
	b.command("DELETE", api.Console{})
	for name, s := range map[string]*socket{"the terminal": shell, "the stream": stream} {
		for err := error(nil); err == nil; {
			_, _, err = s.read()
			if ne, ok := err.(net.Error); ok && ne.Timeout() {
				t.Errorf("%s goes on", name)
			}
		}
	}
	if _, err := io.ReadAll(<-b.flows); err != nil {
		t.Errorf("the flow did not end: %v", err)
	}
	if conn, err := net.Dial("tcp", strings.TrimPrefix(p.origin, "http://")); err == nil {
		conn.Close()
		t.Error("the port is still open")
	}
	if s := b.command("GET", api.Console{}); s.Port != 0 || s.Browsers != 0 {
		t.Errorf("state %+v", s)
	}
	next := b.enter(api.Console{})
	next.key = p.key
	if status, _ := next.send("GET", "/api/meshes", ""); status != 401 {
		t.Errorf("an old key after the console was opened again: status %d", status)
	}
}

func TestTheLastPageThatLeavesShutsTheDoor(t *testing.T) {
	b := newBench(t)
	p, other := b.enter(api.Console{}), b.enter(api.Console{})
	p.send("DELETE", "/session", "")
	if s := b.command("GET", api.Console{}); s.Browsers != 1 || s.Port == 0 {
		t.Errorf("after the first: %+v", s)
	}
	b.mu.Lock()
	o := b.open
	b.mu.Unlock()
	other.send("DELETE", "/session", "")
	select {
	case <-o.closed:
	case <-time.After(timeout):
		t.Error("the door is still open")
	}
}

func TestTheDoorShutsAfterItWasNotUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var wg sync.WaitGroup
		c := New(Host{API: http.NotFoundHandler(), Log: quiet, Life: ctx, Go: wg.Go})
		ln := &deaf{closed: make(chan struct{})}
		c.listen = func(int) ([]net.Listener, error) { return []net.Listener{ln}, nil }
		if _, err := c.invite(api.Console{}); err != nil {
			t.Fatal(err)
		}
		open := func() bool { synctest.Wait(); return !c.open.over() }
		<-time.After(idle - time.Second)
		if !open() {
			t.Error("it was shut too early")
		}
		c.open.used()
		<-time.After(idle - time.Second)
		if !open() {
			t.Error("use did not put it off")
		}
		<-time.After(2 * time.Second)
		if open() {
			t.Error("it is open though nobody has used it")
		}
		<-ln.closed
		wg.Wait()
	})
}

// deaf is a listener to which nobody comes.
type deaf struct {
	net.Listener
	closed chan struct{}
	once   sync.Once
}

func (d *deaf) Accept() (net.Conn, error) { <-d.closed; return nil, net.ErrClosed }
func (d *deaf) Close() error              { d.once.Do(func() { close(d.closed) }); return nil }
func (d *deaf) Addr() net.Addr            { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 7777} }

func TestTooManyWebSocketsAreRefusedAndTheRestWorks(t *testing.T) {
	p := newBench(t).enter(api.Console{})
	for range maxSockets {
		p.dial("/live")
	}
	if status, _ := p.upgrade("/live", "Origin", p.origin, "Sec-WebSocket-Protocol", "ztm, ticket."+p.ticket("/live")); status != http.StatusTooManyRequests {
		t.Errorf("one more: status %d", status)
	}
	if status, _ := p.send("GET", "/api/meshes", ""); status != 200 {
		t.Errorf("a request beside them: status %d", status)
	}
}

func FuzzGuard(f *testing.F) {
	f.Add("GET", "/", "127.0.0.1:7777", "http://127.0.0.1:7777", "same-origin")
	f.Add("GET", "/api/meshes", "evil.example:7777", "", "")
	f.Fuzz(func(t *testing.T, method, path, host, origin, site string) {
		o := &opening{port: 7777}
		o.host.Log = quiet
		passed := false
		h := o.guard(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { passed = true }))
		r := httptest.NewRequest("GET", "/", nil)
		r.Method, r.URL.Path, r.Host = method, path, host
		r.Header["Origin"], r.Header["Sec-Fetch-Site"] = []string{origin}, []string{site}
		h.ServeHTTP(httptest.NewRecorder(), r)
		if passed && (host != "127.0.0.1:7777" && host != "localhost:7777" && host != "[::1]:7777" || origin != "http://"+host) {
			t.Errorf("host %q, origin %q passed", host, origin)
		}
		_ = websocket.Requested(r)
	})
}
