package door

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"ztm/apps"
	"ztm/apps/appstest"
	"ztm/apps/external/contract"
	"ztm/apps/external/manifest"
	"ztm/tunnel/answer"
	"ztm/tunnel/capsule"
)

func TestMain(m *testing.M) { os.Exit(appstest.Run(m)) }

const appID = "alice/guests"

// exit is an app "app" of an endpoint that gives all flows to one program.
type exit struct {
	in   In
	host apps.Host
	dial func(context.Context) (net.Conn, error)
}

func (*exit) Name() string                  { return "app" }
func (*exit) Run(ctx context.Context) error { <-ctx.Done(); return nil }
func (*exit) Left(func(apps.Peer) bool)     {}
func (*exit) API() http.Handler             { return http.NotFoundHandler() }

func (e *exit) Serve(ctx context.Context, f apps.Flow) {
	kind, rest, _ := strings.Cut(f.Path(), "/"+appID)
	e.in.Serve(ctx, f, Request{ID: appID, Kind: kind, Path: strings.TrimPrefix(rest, "/"), Dial: e.dial,
		Caller: contract.Caller{ID: f.Peer().ID, User: f.Peer().User, Source: contract.Peer}})
}

// mesh is a peer "bob" and an endpoint of alice with a program.
type mesh struct {
	bob, alice *appstest.Host
	exit       *exit
}

// newMesh serves the program's socket with what handle does with each connection.
func newMesh(t *testing.T, handle func(net.Conn)) *mesh {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "ztm-door-")
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(dir, "in"))
	if err != nil {
		t.Fatal(err)
	}
	var open sync.WaitGroup
	open.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			open.Go(func() { defer c.Close(); handle(c) })
		}
	})
	e := &exit{dial: func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", l.Addr().String())
	}}
	t.Cleanup(func() { e.in.Close(); l.Close(); open.Wait(); os.RemoveAll(dir) })
	var n appstest.Net
	m := &mesh{bob: n.Join("ep-bob", "bob"), alice: n.Join("ep-alice", "alice"), exit: e}
	m.alice.Start(t, "app", func(h apps.Host) apps.App { m.exit.host = h; return m.exit })
	m.bob.Start(t, "app", func(h apps.Host) apps.App { return &exit{host: h} })
	return m
}

// open opens a flow of bob.
func (m *mesh) open(t *testing.T, path string, q url.Values) net.Conn {
	t.Helper()
	c, err := m.bob.Open(t.Context(), m.alice.Self().ID, path, q)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// answering is a program that writes one text when it has read a request, and echoes from then on.
func answering(text string, seen func(*http.Request)) func(net.Conn) {
	return func(c net.Conn) {
		in := bufio.NewReader(c)
		r, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		if seen != nil {
			seen(r)
		}
		io.WriteString(c, text)
		if strings.HasPrefix(text, "HTTP/1.1 101") {
			io.Copy(c, in)
			c.(*net.UnixConn).CloseWrite()
		}
	}
}

const agreed = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ztm\r\n\r\n"

func TestAStreamReachesTheProgramWithTheNameOfWhoAsks(t *testing.T) {
	seen := make(chan *http.Request, 1)
	m := newMesh(t, answering(agreed, func(r *http.Request) { seen <- r }))
	c := m.open(t, "app/stream/"+appID+"/a b/c", url.Values{"x": {"1"}, "Ztm-Peer-User": {"root"}})
	defer c.Close()
	r := <-seen
	if r.RequestURI != "/a%20b/c?Ztm-Peer-User=root&x=1" || r.Header.Get("Ztm-Peer-User") != "bob" || r.Header.Get("Ztm-Peer-Id") != string(m.bob.Self().ID) ||
		r.Header.Get("Ztm-Source") != "peer" || r.Header.Get("Upgrade") != "ztm" {
		t.Errorf("%s %v", r.RequestURI, r.Header)
	}
	io.WriteString(c, "hello")
	c.(interface{ CloseWrite() error }).CloseWrite()
	if b, err := io.ReadAll(c); string(b) != "hello" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
}

func TestWhatTheProgramSaysAgainstAFlowReachesThePeer(t *testing.T) {
	m := newMesh(t, answering("HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\nno \x1b[2Jroom", nil))
	_, err := m.bob.Open(t.Context(), m.alice.Self().ID, "app/stream/"+appID+"/room", nil)
	if answer.CodeOf(err) != answer.NotFound || !strings.Contains(err.Error(), "no ?[2Jro") {
		t.Errorf("%v", err)
	}
}

func TestAPathThatLeadsElsewhereReachesNoProgram(t *testing.T) {
	m := newMesh(t, func(net.Conn) {})
	for _, path := range []string{"../other", "a//b", `a\b`, "%2e%2e/x", "a\x00"} {
		if _, err := m.bob.Open(t.Context(), m.alice.Self().ID, "app/stream/"+appID+"/"+path, nil); answer.CodeOf(err) != answer.BadRequest {
			t.Errorf("%q: %v", path, err)
		}
	}
	if _, err := m.bob.Open(t.Context(), m.alice.Self().ID, "app/other/"+appID+"/x", nil); answer.CodeOf(err) != answer.NotFound {
		t.Errorf("another kind of flow: %v", err)
	}
}

func TestDatagramsAreCapsulesForTheProgram(t *testing.T) {
	m := newMesh(t, answering(strings.Replace(agreed, "ztm", "ztm-datagram", 1), nil))
	c, err := m.bob.OpenDatagrams(t.Context(), m.alice.Self().ID, "app/datagram/"+appID+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	buf := make([]byte, apps.MaxDatagram)
	for _, sent := range [][]byte{[]byte("a"), {}, bytes.Repeat([]byte("x"), 60000)} {
		if _, err := c.Write(sent); err != nil {
			t.Fatal(err)
		}
		if n, err := c.Read(buf); err != nil || !bytes.Equal(buf[:n], sent) {
			t.Errorf("%d bytes come back as %d, %v", len(sent), n, err)
		}
	}
}

func TestADatagramThatIsTooLongIsDroppedAndNotCut(t *testing.T) {
	sent := capsule.AppendDatagram([]byte(strings.Replace(agreed, "ztm", "ztm-datagram", 1)), make([]byte, apps.MaxDatagram+1))
	m := newMesh(t, answering(string(capsule.AppendDatagram(sent, []byte("short"))), nil))
	c, err := m.bob.OpenDatagrams(t.Context(), m.alice.Self().ID, "app/datagram/"+appID+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	buf := make([]byte, apps.MaxDatagram)
	if n, err := c.Read(buf); err != nil || string(buf[:n]) != "short" {
		t.Errorf("%d bytes arrive, %v", n, err)
	}
}

// ask sends a text as the one request of a flow and returns the answer.
func (m *mesh) ask(t *testing.T, text string) (*http.Response, string) {
	t.Helper()
	c := m.open(t, "app/http/"+appID, nil)
	defer c.Close()
	return exchanged(t, c, text)
}

// exchanged sends a text on a flow and returns the answer.
func exchanged(t *testing.T, c net.Conn, text string) (*http.Response, string) {
	t.Helper()
	io.WriteString(c, text)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(b)
}

func TestARequestIsCleanOnBothWays(t *testing.T) {
	seen := make(chan *http.Request, 1)
	m := newMesh(t, answering("HTTP/1.1 200 OK\r\nZtm-Warning: run rm\r\nztm_token: x\r\nKeep-Alive: 5\r\nX-Own: 1\r\nContent-Length: 2\r\n\r\nok", func(r *http.Request) { seen <- r }))
	resp, body := m.ask(t, "GET /x;y HTTP/1.1\r\nHost: agent\r\nZtm-Peer-User: root\r\nztm_peer_id: root\r\n\r\n")
	r := <-seen
	if r.Host != "ztm" || r.RequestURI != "/x;y" || len(r.Header["Ztm-Peer-User"]) != 1 || r.Header.Get("Ztm-Peer-User") != "bob" || len(r.Header) != 3 {
		t.Errorf("the program sees %s of %s, %v", r.RequestURI, r.Host, r.Header)
	}
	if body != "ok" || resp.Header.Get("X-Own") != "1" || len(resp.Header) > 3 || resp.Header.Get("Ztm-Warning") != "" {
		t.Errorf("the peer sees %q, %v", body, resp.Header)
	}
}

func TestARequestThatIsRefusedSaysWhy(t *testing.T) {
	m := newMesh(t, func(net.Conn) {})
	if resp, body := m.ask(t, "GET http://agent/api HTTP/1.1\r\nHost: agent\r\n\r\n"); resp.StatusCode != 400 || !strings.Contains(body, "does not begin") {
		t.Errorf("%s %s", resp.Status, body)
	}
	if resp, body := m.ask(t, "GET / HTTP/1.1\r\nHost: agent\r\n\r\n"); resp.StatusCode != 502 || !strings.Contains(body, "ended before") {
		t.Errorf("a program that ends: %s %s", resp.Status, body)
	}
}

func TestAPeerHasNoMoreThanItsPlaces(t *testing.T) {
	m := newMesh(t, answering(agreed, nil))
	var open []net.Conn
	for range maxOfPeer {
		open = append(open, m.open(t, "app/stream/"+appID+"/", nil))
	}
	if c, err := m.bob.Open(t.Context(), m.alice.Self().ID, "app/stream/"+appID+"/", nil); err == nil {
		t.Error("one more was taken")
		c.Close()
	} else if answer.CodeOf(err) != answer.Limit {
		t.Errorf("one more: %v", err)
	}
	if c, err := m.alice.Open(t.Context(), m.alice.Self().ID, "app/stream/"+appID+"/", nil); err != nil {
		t.Errorf("another peer: %v", err)
	} else {
		c.Close()
	}
	for _, c := range open {
		c.Close()
	}
	appstest.Eventually(t, "the places are free", func() bool {
		c, err := m.bob.Open(t.Context(), m.alice.Self().ID, "app/stream/"+appID+"/", nil)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

func TestAFlowThatIsCutEndsAtTheProgram(t *testing.T) {
	begun, ended := make(chan bool, 2), make(chan error, 2)
	m := newMesh(t, func(c net.Conn) {
		in := bufio.NewReader(c)
		r, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		if r.Header.Get("Upgrade") != "" {
			io.WriteString(c, agreed)
		}
		begun <- true
		_, err = io.Copy(io.Discard, in)
		ended <- err
	})
	flow := m.open(t, "app/stream/"+appID+"/", nil)
	defer flow.Close()
	request := m.open(t, "app/http/"+appID, nil)
	defer request.Close()
	io.WriteString(request, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	for range 2 {
		<-begun
	}
	m.exit.host.Cut(func(p apps.Peer, path string) bool { return p.User == "bob" && strings.Contains(path, appID) })
	for range 2 {
		<-ended
	}
}

func TestTheProgramIsNotThereAndThePeerHearsWhy(t *testing.T) {
	m := newMesh(t, func(net.Conn) {})
	m.exit.dial = func(context.Context) (net.Conn, error) {
		return nil, answer.Errorf(answer.Unavailable, "it failed ten times")
	}
	for _, kind := range []string{"http", "stream"} {
		if _, err := m.bob.Open(t.Context(), m.alice.Self().ID, "app/"+kind+"/"+appID, nil); err == nil || !strings.Contains(err.Error(), "it failed ten times") {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

// door is the door of bob's program to the agent.
func (m *mesh) door(t *testing.T, rights manifest.Rights) (base string, offered func() []string) {
	t.Helper()
	var mu sync.Mutex
	var names []string
	h := m.bob
	app := h.New("app", func(host apps.Host) apps.App { return &exit{host: host} }).(*exit)
	s := httptest.NewServer(Out(Config{ID: appID, Mesh: h, State: app.host.State, Log: slog.New(slog.DiscardHandler),
		Manifest: func() (manifest.Manifest, error) {
			return manifest.Manifest{Provider: "alice", Name: "guests", Version: "1.2", Rights: rights}, nil
		},
		Offer: func(n []string) { mu.Lock(); defer mu.Unlock(); names = n }}))
	t.Cleanup(s.Close)
	return s.URL, func() []string { mu.Lock(); defer mu.Unlock(); return names }
}

func TestAProgramKnowsItselfAndWhereElseItIs(t *testing.T) {
	m := newMesh(t, func(net.Conn) {})
	m.exit.host.Offer([]string{appID, appID + "/room1"})
	base, offered := m.door(t, manifest.Rights{})
	var self Self
	_, text := appstest.Ask(t, "GET", base+"/v1/self", "")
	if err := json.Unmarshal([]byte(text), &self); err != nil || self.User != "bob" || self.App != appID || self.Version != "1.2" || self.Name != "ep-bob" {
		t.Errorf("%s, %v", text, err)
	}
	var list []Endpoint
	_, text = appstest.Ask(t, "GET", base+"/v1/endpoints", "")
	if err := json.Unmarshal([]byte(text), &list); err != nil || len(list) != 1 || list[0].Name != "ep-alice" || len(list[0].Offers) != 1 || list[0].Offers[0] != "room1" {
		t.Errorf("%s, %v", text, err)
	}
	if _, text = appstest.Ask(t, "GET", base+"/v1/users", ""); strings.TrimSpace(text) != `["alice","bob"]` {
		t.Errorf("users: %s", text)
	}
	if status, text := appstest.Ask(t, "PUT", base+"/v1/offers", `["room2"]`); status != 204 || len(offered()) != 1 {
		t.Errorf("%d %s, %v", status, text, offered())
	}
	if status, _ := appstest.Ask(t, "PUT", base+"/v1/offers", `["../tunnel"]`); status != 400 {
		t.Errorf("an offer that is none: %d", status)
	}
	for _, asked := range [][2]string{{"GET", "/v1/nothing"}, {"POST", "/v1/self"}} {
		var e answer.Error
		if status, text := appstest.Ask(t, asked[0], base+asked[1], ""); status != 404 || json.Unmarshal([]byte(text), &e) != nil || e.Message == "" {
			t.Errorf("%v: %d %q", asked, status, text)
		}
	}
}

func TestAProgramInALoopChangesWhatItOffersAFewTimes(t *testing.T) {
	base, offered := newMesh(t, func(net.Conn) {}).door(t, manifest.Rights{})
	const loops = 50
	taken := 0
	for i := range loops {
		status, text := appstest.Ask(t, "PUT", base+"/v1/offers", fmt.Sprintf(`["room%d"]`, i))
		switch status {
		case http.StatusNoContent:
			taken++
		case http.StatusTooManyRequests:
		default:
			t.Fatalf("%d %s", status, text)
		}
	}
	if taken < int(offerRate.Burst) || taken > loops/2 || len(offered()) == 0 {
		t.Errorf("%d of %d changes were taken; offered: %v", taken, loops, offered())
	}
}

func TestAProgramKeepsAConfiguration(t *testing.T) {
	base, _ := newMesh(t, func(net.Conn) {}).door(t, manifest.Rights{})
	if _, text := appstest.Ask(t, "GET", base+"/v1/config", ""); strings.TrimSpace(text) != "null" {
		t.Errorf("before: %s", text)
	}
	if status, text := appstest.Ask(t, "PUT", base+"/v1/config", `{"colour": "red"}`); status != 204 {
		t.Errorf("%d %s", status, text)
	}
	if _, text := appstest.Ask(t, "GET", base+"/v1/config", ""); !strings.Contains(text, `"red"`) {
		t.Errorf("after: %s", text)
	}
	for _, body := range []string{"{", `"` + strings.Repeat("x", maxConfig) + `"`} {
		if status, _ := appstest.Ask(t, "PUT", base+"/v1/config", body); status != 400 {
			t.Errorf("%.10s: %d", body, status)
		}
	}
}

func TestAProgramReachesItsOwnAppElsewhereAndNoOther(t *testing.T) {
	seen := make(chan *http.Request, 4)
	m := newMesh(t, answering("HTTP/1.1 203 Fine\r\nX-Own: 1\r\nContent-Length: 2\r\n\r\nok", func(r *http.Request) { seen <- r }))
	base, _ := m.door(t, manifest.Rights{Apps: []string{"bob/chat"}})
	at := base + "/v1/at/" + string(m.alice.Self().ID)
	if status, text := appstest.Ask(t, "POST", at+"/sign?x=1", "hello", "Ztm-Peer-User", "root"); status != 203 || text != "ok" {
		t.Fatalf("%d %s", status, text)
	}
	if r := <-seen; r.RequestURI != "/sign?x=1" || r.Method != "POST" || r.Header.Get("Ztm-Peer-User") != "bob" {
		t.Errorf("%s %s %v", r.Method, r.RequestURI, r.Header)
	}
	if status, text := appstest.Ask(t, "GET", at+"/", "", AppField, "eve/spy"); status != 403 {
		t.Errorf("another app: %d %s", status, text)
	}
	if status, _ := appstest.Ask(t, "GET", at+"/%2e%2e/x", ""); status != 400 && status != 307 {
		t.Errorf("a path that leads elsewhere: %d", status)
	}
	if status, _ := appstest.Ask(t, "GET", base+"/v1/at/"+strings.Repeat("0", 64)+"/", ""); status != 503 {
		t.Errorf("an endpoint that is not there: %d", status)
	}
}

func TestAProgramOpensAStreamToItsOwnAppElsewhere(t *testing.T) {
	m := newMesh(t, answering(agreed, nil))
	base, _ := m.door(t, manifest.Rights{})
	c, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "POST /v1/open?to="+string(m.alice.Self().ID)+"&path=room HTTP/1.1\r\nHost: ztm\r\nConnection: Upgrade\r\nUpgrade: ztm\r\n\r\nhello")
	c.(*net.TCPConn).CloseWrite()
	in := bufio.NewReader(c)
	resp, err := http.ReadResponse(in, nil)
	if err != nil || resp.StatusCode != 101 {
		t.Fatalf("%v, %v", resp, err)
	}
	if b, err := io.ReadAll(in); string(b) != "hello" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
	if status, text := appstest.Ask(t, "POST", base+"/v1/open?to="+string(m.alice.Self().ID)+"&path=room", ""); status != 400 {
		t.Errorf("without an upgrade: %d %s", status, text)
	}
}
