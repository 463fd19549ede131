package web

import (
	"net"
	"net/http"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"testing"

	"ztm/agent/api"
	"ztm/apps/appstest"
)

// TestNoSpellingOfAPathLeadsElsewhere asks for files and flows by paths that a careless server takes
// for others. What a path of an endpoint means is the endpoint's to say: it gets the text as it is.
func TestNoSpellingOfAPathLeadsElsewhere(t *testing.T) {
	p := newBench(t).enter(api.Console{})
	p.key = "" // what is served without a key
	for _, path := range []string{
		"/pages/..%2fpages%2fmain.js", "/pages/..%2f..%2f..%2f..%2fetc%2fpasswd", "/pages/%2e%2e%2fpages.go", "/pages/..%5cpages.go", "/pages/main.js%00.svg", "/pages/CON", "/pages/NUL.js",
		"/pages/index.html", "/pages//main.js", "/pages/.", "/xterm/..%2fpages%2fmain.js", "/xterm/xterm.js.gz", "/xterm/%2e%2e", "/xterm/xterm-licence.txt%00.js",
	} {
		if status, body := p.send("GET", path, ""); status == 200 && !strings.HasPrefix(path, "/pages//") || strings.Contains(body, "root:") || strings.Contains(body, "package web") {
			t.Errorf("%s: %d %.60q", path, status, body)
		}
	}
	p = newBench(t).enter(api.Console{})
	for _, path := range []string{"file/list/../read", "file%2flist", "file/list/", "file/./list", "file/list%00", "file\\\\list", "FILE/LIST", "terminal/shell/..", "app/control"} {
		at := "/flow/demo/" + string(someID) + "/" + path
		if strings.Contains(path, "..") || strings.Contains(path, "/./") { // the server cleans it: it is another path, for which the ticket is not good
			if status, _ := p.upgrade(at, "Origin", p.origin, "Sec-WebSocket-Protocol", "ztm, ticket."+p.ticket(at)); status == http.StatusSwitchingProtocols {
				t.Errorf("%s: a flow", path)
			}
			continue
		}
		status, s := p.upgrade(at, "Origin", p.origin, "Sec-WebSocket-Protocol", "ztm, ticket."+p.ticket(at))
		if status != http.StatusSwitchingProtocols {
			continue
		}
		if _, said, err := s.read(); err == nil && strings.Contains(said, `"open"`) && path != "file%2flist" { // %2f is / in a name of several parts
			t.Errorf("%s: %s", path, said)
		}
	}
	const hostile = "path=..%2F..%2Fetc%2Fpasswd&path=%5C%5C%00"
	p.dial("/flow/demo/"+string(someID)+"/file/list?"+hostile).until(t, `"open":true`)
	if got := p.query.Load().(url.Values)["path"]; !slices.Equal(got, []string{"../../etc/passwd", "\\\\\x00"}) {
		t.Errorf("the endpoint is asked for %q", got)
	}
}

// TestAPageThatOpensWithoutEndCostsNoMoreThanItsLimits opens flows that nobody reads or ends, a thousand
// WebSockets and connections that say nothing.
func TestAPageThatOpensWithoutEndCostsNoMoreThanItsLimits(t *testing.T) {
	p := newBench(t).enter(api.Console{})
	upload := "/flow/demo/" + string(someID) + "/file/write"
	before := runtime.NumGoroutine()
	open, refused := 0, 0
	for range 1000 {
		status, s := p.upgrade(upload, "Origin", p.origin, "Sec-WebSocket-Protocol", "ztm, ticket."+p.ticket(upload))
		switch status {
		case http.StatusSwitchingProtocols:
			open++
		case http.StatusTooManyRequests:
			refused++
			s.Close()
		default:
			t.Fatalf("status %d", status)
		}
	}
	if open != maxSockets || refused != 1000-maxSockets {
		t.Errorf("%d are open, %d were refused", open, refused)
	}
	silent := 0
	for range 2 * maxConnections {
		if c, err := net.Dial("tcp", strings.TrimPrefix(p.origin, "http://")); err == nil {
			t.Cleanup(func() { c.Close() })
			silent++
		}
	}
	const each = 4 // goroutines of a connection, at most
	appstest.Eventually(t, "what is beyond the limits is gone", func() bool {
		return runtime.NumGoroutine() < before+each*(maxSockets+maxConnections)
	})
	if silent < maxConnections {
		t.Errorf("only %d connections were tried", silent)
	}
	if n := len(p.flows); n != maxSockets {
		t.Errorf("%d flows were opened", n)
	}
}
