package proxy

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ztm/apps/proxy/dns/dnstest"
	"ztm/tunnel/answer"
)

// webTarget makes a mesh in which http://svc.example.com is the handler. It returns the address of the entrance.
func webTarget(t testing.TB, h http.HandlerFunc) (address string, in, out *endpoint) {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return entranceTo(t, server.Listener.Addr().String())
}

// entranceTo makes a mesh in which svc.example.com, at ports 80 and 443, is what listens at an address.
func entranceTo(t testing.TB, real string) (address string, in, out *endpoint) {
	t.Helper()
	in, out = pair(t, Options{
		Resolver: dnstest.Names{"svc.example.com": "10.0.0.1"},
		Dial:     dialTo(map[string]string{"10.0.0.1:80": real, "10.0.0.1:443": real}),
	}, "*.example.com")
	return in.listen(t), in, out
}

// through returns a client that uses the proxy, for plain HTTP and by CONNECT.
func clientOf(t testing.TB, address, userinfo string) *http.Client {
	t.Helper()
	proxy, err := url.Parse("http://" + userinfo + address)
	if err != nil {
		t.Fatal(err)
	}
	tr := &http.Transport{
		Proxy: http.ProxyURL(proxy), DisableCompression: true, ForceAttemptHTTP2: true,
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
	}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: timeout, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// exchange sends raw requests, the last one with Connection: close, and returns all that comes back.
func exchange(t testing.TB, address, request string) string {
	t.Helper()
	c := dialTCP(t, address)
	if i := strings.LastIndex(request, "\r\nHost:"); i >= 0 && !strings.Contains(request[i:], "Connection: close") {
		request = request[:i] + "\r\nConnection: close" + request[i:]
	}
	io.WriteString(c, request)
	answer, err := io.ReadAll(c)
	if err != nil {
		t.Errorf("answer to %.60q: %v, after %q", request, err, answer)
	}
	return string(answer)
}

func TestForwarding(t *testing.T) {
	var got *http.Request
	var body []byte
	address, in, _ := webTarget(t, func(w http.ResponseWriter, r *http.Request) {
		got = r
		body, _ = io.ReadAll(r.Body)
		w.Header().Set("Connection", "X-Hop")
		w.Header().Set("X-Hop", "gone")
		w.Header().Set("Keep-Alive", "timeout=5")
		w.Header().Set("Proxy-Authenticate", "Basic")
		w.Header().Set("X-End", "stays")
		io.WriteString(w, "hello")
	})
	answer := exchange(t, address, "POST http://SVC.example.com/a%2Fb?x=1;y=2&z=%zz HTTP/1.1\r\n"+
		"Host: other.example.com\r\n"+
		"Connection: close, X-Secret\r\n"+
		"Proxy-Connection: keep-alive\r\n"+
		"Keep-Alive: timeout=5\r\n"+
		"Proxy-Authorization: Basic YTpi\r\n"+
		"TE: trailers, deflate\r\n"+
		"X-Secret: for this hop\r\n"+
		"X-Forwarded-For: 192.0.2.1\r\n"+
		"Forwarded: for=192.0.2.1\r\n"+
		"Authorization: Basic Yzpk\r\n"+
		"Via: 1.0 fred\r\n"+
		"Content-Length: 4\r\n\r\nbody")
	for _, want := range []string{"HTTP/1.1 200 OK\r\n", "X-End: stays\r\n", "Via: 1.1 ztm-", "Connection: close\r\n", "\r\n\r\nhello"} {
		if !strings.Contains(answer, want) {
			t.Errorf("the answer has no %q:\n%s", want, answer)
		}
	}
	for _, hop := range []string{"X-Hop", "Keep-Alive", "Proxy-Authenticate"} {
		if strings.Contains(answer, hop+":") {
			t.Errorf("the answer has %s:\n%s", hop, answer)
		}
	}
	if got == nil {
		t.Fatal("no request")
	}
	if got.Host != "SVC.example.com" || got.RequestURI != "/a%2Fb?x=1;y=2&z=%zz" || string(body) != "body" {
		t.Errorf("host %q, URI %q, body %q", got.Host, got.RequestURI, body)
	}
	want := http.Header{
		"Authorization": {"Basic Yzpk"}, "Content-Length": {"4"}, "Forwarded": {"for=192.0.2.1"}, "X-Forwarded-For": {"192.0.2.1"},
		"Te": {"trailers"}, "Via": {"1.0 fred", "1.1 " + in.app.entrance.web.Name()},
	}
	if diff := cmp.Diff(want, got.Header); diff != "" {
		t.Errorf("fields (-want +got):\n%s", diff)
	}
}

func TestConnectionsAreKept(t *testing.T) {
	var upstream sync.Map // addresses from which the target was asked
	again := make(chan bool, 1)
	address, _, _ := webTarget(t, func(w http.ResponseWriter, r *http.Request) {
		_, seen := upstream.LoadOrStore(r.RemoteAddr, true)
		again <- seen
		io.Copy(w, r.Body)
	})
	client := clientOf(t, address, "")
	near := map[string]bool{}
	// A request may come before the proxy has seen the end of the last answer: then it opens another connection.
	const most, enough = 1000, 10
	requests, kept := 0, 0
	for ; requests < most && kept < enough; requests++ {
		text := fmt.Sprint("request ", requests)
		req, _ := http.NewRequest("POST", "http://svc.example.com/", strings.NewReader(text))
		req = req.WithContext(httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
			GotConn: func(i httptrace.GotConnInfo) { near[i.Conn.LocalAddr().String()] = true },
		}))
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if string(b) != text {
			t.Errorf("answer %d is %q", requests, b)
		}
		if <-again {
			kept++
		}
	}
	if kept < enough {
		t.Errorf("of %d requests, %d came to the target by a connection that was there", requests, kept)
	}
	if len(near) != 1 {
		t.Errorf("%d connections to the proxy, want 1", len(near))
	}
}

func TestTwoClientsNeverShareAConnectionToTheTarget(t *testing.T) {
	address, _, _ := webTarget(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.RemoteAddr) })
	a, b := clientOf(t, address, ""), clientOf(t, address, "")
	if fetch(t, a, "http://svc.example.com/") == fetch(t, b, "http://svc.example.com/") {
		t.Error("they did")
	}
}

func fetch(t testing.TB, c *http.Client, url string) string {
	t.Helper()
	res, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestPartsOfHTTPThatProxiesLose(t *testing.T) {
	address, _, _ := webTarget(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/trailers":
			body, _ := io.ReadAll(r.Body)
			w.Header().Set("Trailer", "X-Sum")
			w.Write(body)
			w.Header().Set("X-Sum", r.Trailer.Get("X-In"))
		case "/hints":
			w.Header().Set("Link", "</style.css>; rel=preload")
			w.WriteHeader(http.StatusEarlyHints)
			io.WriteString(w, "body")
		case "/none":
			w.WriteHeader(http.StatusNoContent)
		case "/same":
			w.Header().Set("ETag", `"x"`)
			w.WriteHeader(http.StatusNotModified)
		case "/head":
			w.Header().Set("Content-Length", "12345")
		case "/untyped":
			w.Header()["Content-Type"] = nil
			io.WriteString(w, "<html>")
		case "/agent":
			fmt.Fprintf(w, "%q", r.Header["User-Agent"])
		}
	})
	client := clientOf(t, address, "")

	req, _ := http.NewRequest("POST", "http://svc.example.com/trailers", struct{ io.Reader }{strings.NewReader("body")})
	req.Trailer = http.Header{"X-In": {"42"}}
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(res.Body)
	res.Body.Close()
	if string(body) != "body" || res.Trailer.Get("X-Sum") != "42" {
		t.Errorf("trailers: body %q, trailers %v", body, res.Trailer)
	}

	hints := 0
	req, _ = http.NewRequest("GET", "http://svc.example.com/hints", nil)
	req = req.WithContext(httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
		Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			if code == http.StatusEarlyHints && h.Get("Link") != "" {
				hints++
			}
			return nil
		},
	}))
	if res, err = client.Do(req); err != nil || hints != 1 {
		t.Errorf("early hints: %d of them, %v", hints, err)
	} else {
		res.Body.Close()
	}

	for path, status := range map[string]int{"/none": 204, "/same": 304} {
		res, err := client.Get("http://svc.example.com" + path)
		if err != nil || res.StatusCode != status {
			t.Errorf("%s: %v, %v", path, res, err)
		}
		res.Body.Close()
	}
	res, err = client.Get("http://svc.example.com/untyped")
	if err != nil || res.Header["Content-Type"] != nil {
		t.Errorf("an answer without a type: %v, %q", err, res.Header["Content-Type"])
	}
	res.Body.Close()
	res, err = client.Head("http://svc.example.com/head")
	if err != nil || res.ContentLength != 12345 {
		t.Errorf("HEAD: length %d, %v", res.ContentLength, err)
	}
	if got := exchange(t, address, "GET http://svc.example.com/agent HTTP/1.0\r\n\r\n"); !strings.HasSuffix(got, "[]") {
		t.Errorf("a request without User-Agent got one: %s", got)
	}
}

func TestABodyIsAskedForOnlyWhenTheTargetWantsIt(t *testing.T) {
	address, _, _ := webTarget(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/refuse" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		io.Copy(w, r.Body)
	})
	for path, want := range map[string]string{"/refuse": "HTTP/1.1 403", "/take": "HTTP/1.1 100"} {
		c := dialTCP(t, address)
		io.WriteString(c, "POST http://svc.example.com"+path+" HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
		line, err := bufio.NewReader(c).ReadString('\n')
		if err != nil || !strings.HasPrefix(line, want) {
			t.Errorf("%s: %q, %v; want %s", path, line, err, want)
		}
		c.Close()
	}
}

func TestFailuresHaveAStatusAndAReason(t *testing.T) {
	address, in, _ := target(t)
	for _, tt := range []struct {
		to     string
		status int
		code   answer.Code
	}{
		{"10.0.0.1:81", 502, answer.Refused},
		{"10.0.0.1:82", 502, answer.Unreachable},
		{"no.example.com:80", 502, answer.DNS},
		{"10.0.0.3:80", 403, answer.Prohibited},
		{"hidden.example.com:80", 403, answer.Prohibited},
		{"8.8.8.8:80", 502, answer.NotFound},
		{"167772161:80", 400, answer.BadRequest},
		{"010.0.0.1:80", 400, answer.BadRequest},
	} {
		for _, request := range []string{
			"CONNECT " + tt.to + " HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
			"GET http://" + tt.to + "/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
		} {
			answer := exchange(t, address, request)
			if !strings.HasPrefix(answer, fmt.Sprintf("HTTP/1.1 %d ", tt.status)) || !strings.Contains(answer, "Proxy-Status: ztm; error="+string(tt.code)+"\r\n") {
				t.Errorf("%.40q: want %d and %s, got\n%s", request, tt.status, tt.code, answer)
			}
		}
	}
	for _, tt := range []struct {
		name, request string
		status        int
	}{
		{"an address in brackets that is none", "CONNECT [10.0.0.1]:80 HTTP/1.1\r\nHost: a\r\n\r\n", 400},
		{"an address with a zone", "CONNECT [fe80::1%25eth0]:80 HTTP/1.1\r\nHost: a\r\n\r\n", 400},
		{"CONNECT without a port", "CONNECT svc.example.com HTTP/1.1\r\nHost: a\r\n\r\n", 400},
		{"CONNECT to a path", "CONNECT /x HTTP/1.1\r\nHost: a\r\n\r\n", 400},
		{"CONNECT to a URL", "CONNECT http://svc.example.com:80/ HTTP/1.1\r\nHost: a\r\n\r\n", 400},
		{"not a proxy request", "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 400},
		{"star", "OPTIONS * HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 400},
		{"https", "GET https://svc.example.com/ HTTP/1.1\r\nHost: a\r\n\r\n", 400},
		{"ftp", "GET ftp://svc.example.com/ HTTP/1.1\r\nHost: a\r\n\r\n", 400},
		{"a user in the URL", "GET http://a:b@svc.example.com/ HTTP/1.1\r\nHost: a\r\n\r\n", 400},
		{"no host in the URL", "GET http:///x HTTP/1.1\r\nHost: svc.example.com\r\n\r\n", 400},
		{"TRACE", "TRACE http://svc.example.com/ HTTP/1.1\r\nHost: a\r\n\r\n", 405},
		{"OPTIONS for this proxy", "OPTIONS http://svc.example.com/ HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n", 204},
		{"the method of refusals", "REFUSED / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
		{"an expectation", "GET http://svc.example.com/ HTTP/1.1\r\nHost: a\r\nExpect: miracles\r\n\r\n", 417},
		{"seen before", "GET http://svc.example.com/ HTTP/1.1\r\nHost: a\r\nVia: 1.1 x, 1.1 " + in.app.entrance.web.Name() + "\r\n\r\n", 508},
		{"CONNECT seen before", "CONNECT svc.example.com:80 HTTP/1.1\r\nHost: a\r\nVia: 1.1 " + in.app.entrance.web.Name() + " (x)\r\n\r\n", 508},
		{"far travelled", "GET http://svc.example.com/ HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("Via: 1.1 x\r\n", 11) + "\r\n", 508},
	} {
		answer := exchange(t, address, tt.request)
		if !strings.HasPrefix(answer, fmt.Sprintf("HTTP/1.1 %d ", tt.status)) {
			t.Errorf("%s: want %d, got\n%s", tt.name, tt.status, answer)
		}
	}
}

type smugglingAttempt struct {
	Name, Request string
	Want          int // the status, 0 if the request may pass
}

// smugglingAttempts reads the table of package httpguard.
func smugglingAttempts(t testing.TB) (list []smugglingAttempt) {
	t.Helper()
	b, err := os.ReadFile("httpguard/testdata/smuggling.json")
	if err == nil {
		err = json.Unmarshal(b, &list)
	}
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestSmugglingThroughTheWholeProxy(t *testing.T) {
	var requests []string
	var mu sync.Mutex
	address, _, _ := webTarget(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		requests = append(requests, r.URL.Path)
	})
	for _, tt := range smugglingAttempts(t) {
		request := strings.ReplaceAll(tt.Request, "http://a/", "http://svc.example.com/first")
		if !strings.HasPrefix(request, "GET http") || tt.Want == 0 {
			continue
		}
		// A second request hides where a lenient reader would see one.
		answer := exchange(t, address, request+"GET http://svc.example.com/second HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
		if !strings.HasPrefix(answer, fmt.Sprintf("HTTP/1.1 %d ", tt.Want)) || strings.Count(answer, "Proxy-Status: ") != 1 {
			t.Errorf("%s: want %d alone, got\n%s", tt.Name, tt.Want, answer)
		}
	}
	if len(requests) > 0 {
		t.Errorf("the target got %q", requests)
	}
}

func TestAPipelinedRequestThatIsRefusedDoesNotHurtTheOneBefore(t *testing.T) {
	address, _, _ := webTarget(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") })
	answer := exchange(t, address, "GET http://svc.example.com/ HTTP/1.1\r\nHost: a\r\n\r\nGET http://svc.example.com/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
	if !strings.HasPrefix(answer, "HTTP/1.1 200 OK") || strings.Count(answer, "HTTP/1.1 400 Bad Request") != 1 || !strings.Contains(answer, "more than one host") {
		t.Errorf("got\n%s", answer)
	}
}

func TestABrokenChunkOfABodyIsTheClientsFault(t *testing.T) {
	address, _, _ := webTarget(t, func(w http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) })
	answer := exchange(t, address, "POST http://svc.example.com/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n")
	if !strings.HasPrefix(answer, "HTTP/1.1 400 ") {
		t.Errorf("got\n%s", answer)
	}
}

func TestPasswordForHTTP(t *testing.T) {
	var seen http.Header
	address, in, _ := webTarget(t, func(w http.ResponseWriter, r *http.Request) {
		seen = r.Header.Clone()
		io.WriteString(w, "hello")
	})
	if err := in.call("PUT", "/credentials/me", map[string]string{"password": "se:cret"}, nil); err != nil {
		t.Fatal(err)
	}
	for userinfo, want := range map[string]int{"": 407, "me:wrong@": 407, "me@": 407, "you:se%3Acret@": 407, "me:se%3Acret@": 200} {
		res, err := clientOf(t, address, userinfo).Get("http://svc.example.com/")
		if err != nil || res.StatusCode != want {
			t.Fatalf("%q: %v, %v; want %d", userinfo, res, err, want)
		}
		if want == 407 && res.Header.Get("Proxy-Authenticate") == "" {
			t.Errorf("%q: the answer does not say how to give the password", userinfo)
		}
		res.Body.Close()
	}
	if seen.Get("Proxy-Authorization") != "" {
		t.Error("the target got the password")
	}
	auth := "Proxy-Authorization: Basic bWU6c2U6Y3JldA==\r\n"
	request := "GET http://svc.example.com/ HTTP/1.1\r\nHost: a\r\n"
	answer := exchange(t, address, request+"\r\n"+request+auth+"\r\n"+request+auth+auth+"Connection: close\r\n\r\n")
	var statuses []string
	for line := range strings.SplitSeq(answer, "\r\n") {
		if i := strings.Index(line, "HTTP/1.1 "); i >= 0 {
			statuses = append(statuses, line[i+9:i+12])
		}
	}
	if diff := cmp.Diff([]string{"407", "200", "407"}, statuses); diff != "" {
		t.Errorf("none, right, twice on one connection (-want +got):\n%s", diff)
	}
}

func TestAResponseThatBreaksOffDoesNotLookComplete(t *testing.T) {
	server := serveTCP(t, func(c *net.TCPConn) {
		http.ReadRequest(bufio.NewReader(c))
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nhello")
	})
	address, _, _ := entranceTo(t, server)
	for _, version := range []string{"1.0", "1.1"} {
		c := dialTCP(t, address)
		io.WriteString(c, "GET http://svc.example.com/ HTTP/"+version+"\r\nHost: a\r\n\r\n")
		if answer, err := io.ReadAll(c); err == nil {
			t.Errorf("HTTP/%s: a clean end after %q", version, answer)
		}
	}
}

func TestTheProxyDoesNotConnectToItself(t *testing.T) {
	in, _ := pair(t, Options{}, "*.example.com")
	address := in.listen(t)
	name, refuse := "direct", Change{Direct: []string{"127.0.0.1", "localhost"}}
	refuse.Default = &name
	in.change(t, refuse)
	for _, request := range []string{
		"CONNECT " + address + " HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET http://" + address + "/proxy.pac HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
	} {
		if answer := exchange(t, address, request); !strings.HasPrefix(answer, "HTTP/1.1 403 ") || !strings.Contains(answer, "this proxy itself") {
			t.Errorf("%.30q: got\n%s", request, answer)
		}
	}
}
