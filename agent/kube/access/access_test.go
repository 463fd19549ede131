package access

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ztm/apps"
	"ztm/apps/appstest"
	"ztm/tunnel/answer"
)

// upstream is an API server that says as whom it was asked. It upgrades where that is wanted, and
// echoes then.
func upstream(t *testing.T) (s *httptest.Server, asked func() []http.Header) {
	t.Helper()
	headers := make(chan http.Header, 100)
	s = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := r.Header.Clone()
		h.Set("X-Target", r.RequestURI) // for asked
		headers <- h
		if r.Header.Get("Upgrade") == "" {
			fmt.Fprintf(w, "you are %s\n", r.Header.Get("Impersonate-User"))
			return
		}
		c, in, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+r.Header.Get("Upgrade")+"\r\n\r\n")
		io.Copy(c, in)
	}))
	t.Cleanup(s.Close)
	return s, func() (list []http.Header) {
		for len(headers) > 0 {
			list = append(list, <-headers)
		}
		return list
	}
}

// way is a mesh in which b is the way to an API server, and a asks.
type way struct {
	net           appstest.Net
	a, b          *appstest.Host
	asked         func() []http.Header
	server, token string // its address, and a path
}

func newWay(t *testing.T, user string) *way {
	t.Helper()
	s, asked := upstream(t)
	w := &way{asked: asked, token: filepath.Join(t.TempDir(), "token")}
	if err := os.WriteFile(w.token, []byte("cluster-secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.a, w.b = w.net.Join("a", user), w.net.Join("b", "root")
	w.a.Start(t, Name, New)
	w.b.Start(t, Name, New)
	w.server = s.URL
	w.gives(t)
	return w
}

// gives has b know groups.
func (w *way) gives(t *testing.T, groups ...string) {
	t.Helper()
	if err := w.b.API("PUT", "kube/server", Server{URL: w.server, TokenFile: w.token, Groups: groups}, nil); err != nil {
		t.Fatal(err)
	}
}

// raw sends text in a flow, and returns the status and what stands in the body.
func (w *way) raw(t *testing.T, text string) (status int, body string) {
	t.Helper()
	c, err := w.a.Open(t.Context(), w.b.Self().ID, Name+"/"+API, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	go io.WriteString(c, text)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return resp.StatusCode, ""
	}
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b)
}

// Each of these once made a product act as itself, which may do everything.
func TestNoHeaderMakesAnybodySomebodyElse(t *testing.T) {
	w := newWay(t, "alice")
	for name, header := range map[string]string{
		"nothing":                        "",
		"Connection names ours":          "Connection: Impersonate-User\r\n",
		"Connection names it among more": "Connection: close, impersonate-user\r\n",
		"two Connection headers":         "Connection: close\r\nConnection: Impersonate-User, Authorization\r\n",
		"Connection names the token":     "Connection: Authorization\r\n",
		"Connection and Upgrade":         "Connection: Upgrade, Impersonate-User\r\nUpgrade: websocket\r\n",
		"an upgrade":                     "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\n",
		"its own":                        "Impersonate-User: root\r\n",
		"in small letters":               "impersonate-user: root\r\n",
		"with an underscore":             "Impersonate_User: root\r\n",
		"a group":                        "Impersonate-Group: system:masters\r\n",
		"a UID":                          "Impersonate-Uid: 1\r\n",
		"more":                           "Impersonate-Extra-Scopes: all\r\n",
		"an empty one":                   "Impersonate-User:\r\n",
		"a space before the colon":       "Impersonate-User : root\r\n",
		"a token":                        "Authorization: Bearer other\r\n",
		"a proxy's words":                "X-Remote-User: root\r\nX-Remote-Group: system:masters\r\nX-Forwarded-For: 127.0.0.1\r\nForwarded: for=1\r\n",
		"Keep-Alive and Te":              "Keep-Alive: x\r\nTe: trailers\r\nProxy-Connection: Impersonate-User\r\n",
		"a trailer":                      "Trailer: Impersonate-User\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			w.asked()
			status, body := w.raw(t, "GET /api HTTP/1.1\r\nHost: kube\r\n"+header+"\r\n")
			if status == http.StatusOK && body != "you are ztm:alice\n" {
				t.Errorf("%d %q", status, body)
			}
			for _, h := range w.asked() {
				if got := h.Values("Impersonate-User"); !slices.Equal(got, []string{"ztm:alice"}) {
					t.Errorf("it was asked as %q", got)
				}
				if h.Get("Authorization") != "Bearer cluster-secret" {
					t.Errorf("with %q", h.Get("Authorization"))
				}
				for name := range h {
					lower := strings.ToLower(name)
					if strings.HasPrefix(lower, "impersonate") && lower != "impersonate-user" || strings.HasPrefix(lower, "x-remote") || strings.Contains(lower, "forwarded") || strings.Contains(name, "_") {
						t.Errorf("header %s went on", name)
					}
				}
			}
		})
	}
}

func TestWhoAsksToBeSomebodyElseIsToldSo(t *testing.T) {
	w := newWay(t, "alice")
	status, body := w.raw(t, "GET /api HTTP/1.1\r\nHost: kube\r\nImpersonate-User: bob\r\n\r\n")
	if status != http.StatusForbidden || !strings.Contains(body, "ztm:alice") || len(w.asked()) != 0 {
		t.Errorf("%d %s", status, body)
	}
}

// An empty name would be the exit's own account.
func TestAUserWhoCannotBeNamedIsNotAsked(t *testing.T) {
	for _, user := range []string{"", "system:masters", "a\r\nImpersonate-Group: x", "größe", "a b", "a,b", strings.Repeat("x", 300)} {
		if got, ok := subject(apps.Peer{User: user}); ok {
			t.Errorf("%q is %q", user, got)
		}
	}
	if got, ok := subject(apps.Peer{User: "alice@example.com"}); !ok || got != "ztm:alice@example.com" {
		t.Errorf("%q, %v", got, ok)
	}
	w := newWay(t, "größe")
	if status, _ := w.raw(t, "GET /api HTTP/1.1\r\nHost: kube\r\n\r\n"); status != http.StatusInternalServerError || len(w.asked()) != 0 {
		t.Errorf("%d", status)
	}
}

func TestWithoutATokenNothingIsSent(t *testing.T) {
	w := newWay(t, "alice")
	if err := os.Remove(w.token); err != nil {
		t.Fatal(err)
	}
	if status, _ := w.raw(t, "GET /api HTTP/1.1\r\nHost: kube\r\n\r\n"); status != http.StatusBadGateway || len(w.asked()) != 0 {
		t.Errorf("%d", status)
	}
}

func TestItIsNoProxy(t *testing.T) {
	w := newWay(t, "alice")
	for _, line := range []string{"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443", "GET http://example.com/x HTTP/1.1\r\nHost: example.com", "OPTIONS * HTTP/1.1\r\nHost: kube"} {
		if status, body := w.raw(t, line+"\r\n\r\n"); status == http.StatusOK && body != "you are ztm:alice\n" {
			t.Errorf("%s: %d %q", line, status, body)
		}
	}
}

func TestATokenInTheNameOfAProtocolStaysBehind(t *testing.T) {
	w := newWay(t, "alice")
	w.raw(t, "GET /exec HTTP/1.1\r\nHost: kube\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Protocol: v5.channel.k8s.io, base64url.bearer.authorization.k8s.io.c2VjcmV0\r\n\r\n")
	if got := w.asked()[0].Values("Sec-Websocket-Protocol"); !slices.Equal(got, []string{"v5.channel.k8s.io"}) {
		t.Errorf("%q", got)
	}
}

func TestAnEndpointWithoutAClusterSaysSo(t *testing.T) {
	var n appstest.Net
	a, b := n.Join("a", "alice"), n.Join("b", "root")
	b.Start(t, Name, New)
	if _, err := a.Open(t.Context(), b.Self().ID, Name+"/"+API, nil); answer.CodeOf(err) != answer.NotFound {
		t.Errorf("%v", err)
	}
}

func TestARuleNamesEverybodyWhereThereIsAClusterAndNobodyElsewhere(t *testing.T) {
	var n appstest.Net
	h := n.Join("b", "root")
	app, _ := h.Start(t, Name, New)
	s, _ := upstream(t)
	for _, c := range []struct {
		server string
		want   []string
	}{{"", nil}, {s.URL, []string{"*"}}, {"", nil}} {
		if err := h.API("PUT", "kube/server", Server{URL: c.server}, nil); err != nil {
			t.Fatal(err)
		}
		if who, err := app.(apps.Ruled).Rule(""); err != nil || !slices.Equal(who, c.want) {
			t.Errorf("with the server %q: %q, %v", c.server, who, err)
		}
	}
}

// login makes a login at a for b, and a client that trusts it.
func (w *way) login(t *testing.T) (Login, *http.Client) {
	t.Helper()
	var login Login
	appstest.Eventually(t, "the app runs", func() bool { return w.a.API("POST", "kube/logins/b", Login{User: "root"}, &login) == nil })
	return login, trusting(t, login)
}

// trusting returns a client that trusts a login.
func trusting(t *testing.T, login Login) *http.Client {
	t.Helper()
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(login.Certificate)) {
		t.Fatal("no certificate")
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func (w *way) tokenFor(t *testing.T, ep string) string {
	t.Helper()
	var token Token
	if err := w.a.API("POST", "kube/logins/"+ep+"/token", nil, &token); err != nil {
		t.Fatal(err)
	}
	return token.Token
}

func get(t *testing.T, c *http.Client, login Login, token string) (int, string) {
	t.Helper()
	r, err := http.NewRequest("GET", "https://"+login.Listen+"/api", nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := c.Do(r)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b)
}

// What the program behind a proxy of the API server is asked for is not ours to write anew.
func TestPathAndQueryReachTheAPIServerAsTheyAre(t *testing.T) {
	w := newWay(t, "alice")
	login, client := w.login(t)
	for _, target := range []string{"/api/v1/proxy/repo%2Fname/a|b?q=a;b", "/a%2fb", "/a//b/", "/a?", "/%7Eb/[c]"} {
		r := &http.Request{Method: "GET", URL: &url.URL{Scheme: "https", Host: login.Listen, Opaque: target},
			Header: http.Header{"Authorization": {"Bearer " + w.tokenFor(t, login.Name)}}}
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if asked := w.asked(); len(asked) != 1 || asked[0].Get("X-Target") != target {
			t.Errorf("%s arrives as %v", target, asked)
		}
	}
}

func TestALoginTakesThoseWithATokenAlone(t *testing.T) {
	w := newWay(t, "alice")
	login, client := w.login(t)
	token := w.tokenFor(t, login.Name)
	if status, body := get(t, client, login, token); status != 200 || body != "you are ztm:alice\n" {
		t.Errorf("%d %s", status, body)
	}
	w.asked()
	for _, wrong := range []string{"", "x", token[:len(token)-1], token + "A", strings.Repeat("A", len(token))} {
		if status, _ := get(t, client, login, wrong); status != http.StatusUnauthorized {
			t.Errorf("token %q: %d", wrong, status)
		}
	}
	if len(w.asked()) != 0 {
		t.Error("the cluster was asked")
	}
	if status, body := get(t, &http.Client{}, login, token); status != 0 {
		t.Errorf("a client that does not know the certificate: %d %s", status, body)
	}
	if err := w.a.API("DELETE", "kube/logins/"+login.Name, nil, nil); err != nil {
		t.Fatal(err)
	}
	appstest.Eventually(t, "it is closed", func() bool {
		c, err := net.Dial("tcp", login.Listen)
		if err == nil {
			c.Close()
		}
		return err != nil
	})
}

func TestAnExecSessionRunsThroughALogin(t *testing.T) {
	w := newWay(t, "alice")
	login, client := w.login(t)
	config := client.Transport.(*http.Transport).TLSClientConfig.Clone()
	config.NextProtos = nil
	c, err := tls.Dial("tcp", login.Listen, config)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "POST /exec HTTP/1.1\r\nHost: kube\r\nAuthorization: Bearer %s\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\n", w.tokenFor(t, login.Name))
	in := bufio.NewReader(c)
	resp, err := http.ReadResponse(in, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%v, %v", resp, err)
	}
	io.WriteString(c, "hello\n")
	if line, err := in.ReadString('\n'); line != "hello\n" || err != nil {
		t.Fatalf("%q, %v", line, err)
	}
	h := w.asked()[0]
	if h.Get("Impersonate-User") != "ztm:alice" || h.Get("X-Stream-Protocol-Version") != "v4.channel.k8s.io" || h.Get("Authorization") != "Bearer cluster-secret" {
		t.Errorf("%v", h)
	}
	w.net.Evict("alice")
	if _, err := in.ReadString('\n'); err == nil {
		t.Error("it goes on after the eviction")
	}
}

func TestALoginStaysAfterARestart(t *testing.T) {
	var n appstest.Net
	c := n.Join("c", "alice")
	_, stop := c.Start(t, Name, New)
	var first, second []Login
	var made Login
	appstest.Eventually(t, "the app runs", func() bool { return c.API("POST", "kube/logins/b", Login{User: "root"}, &made) == nil })
	if err := c.API("GET", "kube/logins", nil, &first); err != nil {
		t.Fatal(err)
	}
	stop()
	c.Start(t, Name, New)
	appstest.Eventually(t, "it listens again", func() bool {
		l, err := net.Dial("tcp", made.Listen)
		if err == nil {
			l.Close()
		}
		return err == nil
	})
	if err := c.API("GET", "kube/logins", nil, &second); err != nil || !slices.Equal(first, second) || len(first) != 1 {
		t.Errorf("%v, %v, %v", first, second, err)
	}
	if b, _ := json.Marshal(second); strings.Contains(string(b), "PRIVATE") {
		t.Error("the API tells the key")
	}
}

// Whoever takes the name of the endpoint gets nobody's requests.
func TestALoginFollowsTheNameOfItsUser(t *testing.T) {
	w := newWay(t, "alice")
	login, client := w.login(t)
	token := w.tokenFor(t, login.Name)
	w.b.SetOnline(false)
	s, asked := upstream(t)
	for i, user := range []string{"mallory", "root"} {
		b := w.net.Join(fmt.Sprint("b", i), user)
		b.Rename("b")
		b.Start(t, Name, New)
		if err := b.API("PUT", "kube/server", Server{URL: s.URL, TokenFile: w.token}, nil); err != nil {
			t.Fatal(err)
		}
		status, body := get(t, client, login, token)
		if user == "mallory" && (status != http.StatusBadGateway || len(asked()) != 0) || user == "root" && status != 200 {
			t.Errorf("with the endpoint of %s: %d %s", user, status, body)
		}
	}
}

// TestAUserIsInTheGroupsThatTheExitMayName: in no others, whatever else the mesh's policy has.
func TestAUserIsInTheGroupsThatTheExitMayName(t *testing.T) {
	w := newWay(t, "alice")
	w.net.SetGroup("dev", "alice", "bob")
	w.net.SetGroup("ops", "bob")
	w.net.SetGroup("hr", "alice")
	w.gives(t, "dev", "ops")
	if status, body := w.raw(t, "GET /api HTTP/1.1\r\nHost: kube\r\n\r\n"); status != http.StatusOK {
		t.Fatalf("%d %s", status, body)
	}
	for _, h := range w.asked() {
		if got := h.Values("Impersonate-Group"); !slices.Equal(got, []string{"ztm:dev"}) {
			t.Errorf("it was asked as one of %q", got)
		}
	}
}

// TestWhoLeavesAGroupLosesWhatRunsWithIt: a terminal has been let in by the group's rights.
func TestWhoLeavesAGroupLosesWhatRunsWithIt(t *testing.T) {
	w := newWay(t, "alice")
	w.net.SetGroup("dev", "alice")
	w.net.SetGroup("ops", "alice")
	w.gives(t, "dev")
	c, err := w.a.Open(t.Context(), w.b.Self().ID, Name+"/"+API, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "POST /exec HTTP/1.1\r\nHost: kube\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n")
	in := bufio.NewReader(c)
	if resp, err := http.ReadResponse(in, nil); err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%v, %v", resp, err)
	}
	w.net.SetGroup("ops") // not one of those that the cluster knows
	io.WriteString(c, "x")
	if b, err := in.ReadByte(); b != 'x' || err != nil {
		t.Fatalf("the terminal has ended: %q, %v", b, err)
	}
	w.net.SetGroup("dev", "bob")
	io.WriteString(c, "y")
	if b, err := in.ReadByte(); err == nil {
		t.Errorf("the terminal goes on: %q", b)
	}
}

func TestAGroupThatFitsNoHeaderIsRefused(t *testing.T) {
	w := newWay(t, "alice")
	for _, g := range []string{"", "a b", "a:b", "a,b", "a\nb", "é"} {
		if err := w.b.API("PUT", "kube/server", Server{URL: "https://other", TokenFile: w.token, Groups: []string{g}}, nil); err == nil {
			t.Errorf("%q is a group", g)
		}
	}
}
