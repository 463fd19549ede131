package console

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"ztm/agent/api"
	"ztm/agent/api/apitest"
	"ztm/apps"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
)

// at returns a console that talks to an agent with the answers of the demo and these.
func at(t *testing.T, answers map[string]any) *Console {
	t.Helper()
	all := apitest.Demo()
	for request, answer := range answers {
		all[request] = answer
	}
	c := New(Config{})
	c.data = apitest.New(t, all).Dir
	return c
}

func TestAFailureOfTheAgentKeepsItsCode(t *testing.T) {
	text := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			io.WriteString(w, body)
		}
	}
	for _, tt := range []struct {
		name   string
		answer any
		code   answer.Code
		text   string
	}{
		{"error", answer.Errorf(answer.Conflict, "the name is taken"), answer.Conflict, "the name is taken"},
		{"no message", answer.Errorf(answer.Conflict, ""), answer.Conflict, "conflict"},
		{"text", text(500, "oops"), answer.Broken, "the answer is 500 Internal Server Error, without a reason"},
		{"nothing", text(503, ""), answer.Unavailable, "the answer is 503 Service Unavailable, without a reason"},
		{"endless", text(500, strings.Repeat("x", 1<<20)), answer.Broken, `the agent answered "500 Internal Server Error": more than 65536 bytes`},
		{"redirect", text(301, ""), answer.Broken, "the answer is 301 Moved Permanently, without a reason"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := at(t, map[string]any{"DELETE /api/x": tt.answer})
			err := c.Do(context.Background(), http.MethodDelete, "/api/x", nil, nil)
			if answer.CodeOf(err) != tt.code || err == nil || err.Error() != tt.text {
				t.Errorf("got %v (%s), want %s (%s)", err, answer.CodeOf(err), tt.text, tt.code)
			}
		})
	}
}

func TestARefusalOfALargeRequestIsRead(t *testing.T) {
	c := at(t, map[string]any{"POST /api/x": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(answer.Limit.Status())
		json.NewEncoder(w).Encode(answer.Errorf(answer.Limit, "too large"))
	})})
	for range 5 {
		err := c.Do(context.Background(), http.MethodPost, "/api/x", strings.Repeat("x", 1<<20), nil)
		if answer.CodeOf(err) != answer.Limit {
			t.Fatalf("got %v", err)
		}
	}
}

func TestAnAnswerThatIsNotJSONIsAnError(t *testing.T) {
	c := at(t, map[string]any{"GET /api/x": "hello"})
	var out any
	if err := c.Do(context.Background(), http.MethodGet, "/api/x", nil, &out); err == nil || !strings.HasPrefix(err.Error(), "answer of the agent: ") {
		t.Errorf("got %v", err)
	}
}

func TestAnAgentThatHangsIsLeft(t *testing.T) {
	for _, tt := range []struct {
		name  string
		start func(http.ResponseWriter)
	}{
		{"before the answer", func(http.ResponseWriter) {}},
		{"in the answer", func(w http.ResponseWriter) { w.WriteHeader(200); w.(http.Flusher).Flush() }},
		{"in a failure", func(w http.ResponseWriter) { w.WriteHeader(500); w.(http.Flusher).Flush() }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(context.Background())
			c := at(t, map[string]any{"GET /api/x": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				tt.start(w)
				cancel()
				<-r.Context().Done() // the client has gone
			})})
			if _, err := c.Fetch(ctx, "/api/x"); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// upgrade answers 101 with first right behind it, then hands the connection on.
func upgrade(protocol, first string, then func(net.Conn, *bufio.Reader)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != protocol || r.Header.Get("Connection") != "Upgrade" {
			http.Error(w, "want an upgrade", http.StatusBadRequest)
			return
		}
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+protocol+"\r\n\r\n"+first)
		then(conn, rw.Reader)
	}
}

func flowRequest(path string, q url.Values) string {
	return "POST " + api.FlowPath("demo", apitest.NasID, path, q)
}

func TestAFlowHalfCloses(t *testing.T) {
	c := at(t, map[string]any{
		flowRequest("echo/x", url.Values{"a": {"b"}}): upgrade(api.UpgradeFlow, "\x00\x00\x00\x06hello ", func(conn net.Conn, r *bufio.Reader) {
			flow := api.Stream(ahead{conn, r})
			b, _ := io.ReadAll(flow) // until the client's end
			io.WriteString(flow, strings.ToUpper(string(b)))
			flow.Close()
		}),
	})
	ctx, cancel := context.WithCancel(context.Background())
	conn, err := c.Open(ctx, apitest.NasID, "echo/x", url.Values{"a": {"b"}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	cancel() // governs the opening alone
	if _, err := io.WriteString(conn, "world"); err != nil {
		t.Fatal(err)
	}
	if err := conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(conn); err != nil || string(b) != "hello WORLD" {
		t.Errorf("got %q, %v", b, err)
	}
}

// ahead is a connection of which something was read already.
type ahead struct {
	net.Conn
	r *bufio.Reader
}

func (a ahead) Read(p []byte) (int, error) { return a.r.Read(p) }

func TestAFlowThatIsResetFailsAtTheAgent(t *testing.T) {
	failed := make(chan error, 1)
	c := at(t, map[string]any{
		flowRequest("echo/x", nil): upgrade(api.UpgradeFlow, "", func(conn net.Conn, r *bufio.Reader) {
			_, err := io.ReadAll(api.Stream(ahead{conn, r})) // until the client has gone
			failed <- err
		}),
	})
	conn, err := c.Open(context.Background(), apitest.NasID, "echo/x", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.(interface{ Reset() error }).Reset(); err != nil {
		t.Fatal(err)
	}
	if err := <-failed; err == nil {
		t.Error("the agent takes it for an end")
	}
}

func TestAFlowThatTheAgentLostIsNotAtItsEnd(t *testing.T) {
	c := at(t, map[string]any{
		flowRequest("echo/x", nil): upgrade(api.UpgradeFlow, "\x00\x00\x00\x04half", func(net.Conn, *bufio.Reader) {}),
	})
	conn, err := c.Open(context.Background(), apitest.NasID, "echo/x", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if b, err := io.ReadAll(conn); err == nil || string(b) != "half" {
		t.Errorf("got %q, %v", b, err)
	}
}

func TestAFlowOfDatagrams(t *testing.T) {
	c := at(t, map[string]any{
		flowRequest("echo/x", nil): upgrade(api.UpgradeDatagrams, "\x00\x02hi", func(conn net.Conn, r *bufio.Reader) {
			io.Copy(conn, r)
		}),
	})
	conn, err := c.OpenDatagrams(context.Background(), apitest.NasID, "echo/x", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	buf := make([]byte, 100)
	if n, err := conn.Read(buf); err != nil || string(buf[:n]) != "hi" {
		t.Fatalf("got %q, %v", buf[:n], err)
	}
	for _, want := range []string{"one", "", "three"} {
		if _, err := conn.Write([]byte(want)); err != nil {
			t.Fatal(err)
		}
		if n, err := conn.Read(buf); err != nil || string(buf[:n]) != want {
			t.Errorf("got %q, %v; want %q", buf[:n], err, want)
		}
	}
}

func TestAFlowThatIsRefusedIsAnError(t *testing.T) {
	for _, tt := range []struct {
		name   string
		answer any
		code   answer.Code
	}{
		{"denied", answer.Errorf(answer.Denied, "not yours"), answer.Denied},
		{"no upgrade", map[string]string{}, answer.Internal},
		{"another upgrade", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Upgrade", "websocket")
			w.WriteHeader(101)
		}), answer.Internal},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := at(t, map[string]any{flowRequest("echo/x", nil): tt.answer})
			conn, err := c.Open(context.Background(), apitest.NasID, "echo/x", nil)
			if err == nil {
				conn.Close()
			}
			if answer.CodeOf(err) != tt.code {
				t.Errorf("got %v (%s), want %s", err, answer.CodeOf(err), tt.code)
			}
		})
	}
}

func TestOpeningAFlowCanBeGivenUp(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	c := at(t, map[string]any{flowRequest("echo/x", nil): http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	})})
	if _, err := c.Open(ctx, apitest.NasID, "echo/x", nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestResolve(t *testing.T) {
	idName := string(identity.IDOf([]byte("named like an ID")))
	answers := map[string]any{
		"GET " + api.EndpointsPath("demo", apps.Filter{Name: idName}): []apps.Endpoint{{ID: apitest.PhoneID, Name: idName}},
		"GET " + api.EndpointPath("demo", identity.ID(idName)):        answer.Errorf(answer.NotFound, "no such endpoint"),
	}
	for _, tt := range []struct {
		name string
		id   identity.ID
		err  string
	}{
		{"", apitest.LaptopID, ""},
		{".", apitest.LaptopID, ""},
		{"laptop", apitest.LaptopID, ""},
		{"nas", apitest.NasID, ""},
		{string(apitest.NasID), apitest.NasID, ""},
		{string(apitest.LaptopID), apitest.LaptopID, ""},
		{idName, apitest.PhoneID, ""},
		{"nobody", "", "endpoint 'nobody' not found"},
		{"twin", "", "ambiguous endpoint name 'twin'"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ep, err := at(t, answers).Resolve(context.Background(), tt.name)
			if ep.ID != tt.id || (err == nil) != (tt.err == "") || err != nil && err.Error() != tt.err {
				t.Errorf("got %s, %v; want %s, %q", ep.ID, err, tt.id, tt.err)
			}
		})
	}
}

func TestTheChosenEndpointIsAskedForOnce(t *testing.T) {
	asked := 0
	c := at(t, map[string]any{
		"GET " + api.EndpointsPath("demo", apps.Filter{Name: "nas"}): http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			asked++
			json.NewEncoder(w).Encode([]apps.Endpoint{{ID: apitest.NasID, Name: "nas"}})
		}),
		"POST " + api.AppPath("demo", apitest.NasID, "tunnel/x"): map[string]int{"n": 5},
	})
	c.endpoint = "nas"
	for range 3 {
		var out struct{ N int }
		if err := c.Call(context.Background(), http.MethodPost, "tunnel/x", []string{"in"}, &out); err != nil || out.N != 5 {
			t.Fatalf("got %v, %v", out, err)
		}
	}
	if asked != 1 {
		t.Errorf("asked %d times", asked)
	}
}

// TestTheAgentIsNotThere also holds what a person reads first when something is wrong.
func TestTheAgentIsNotThere(t *testing.T) {
	dir := apitest.New(t, nil).Dir // exists while the test runs
	for _, tt := range []struct{ data, hint string }{
		{dir + "/none", "start it with: ztm run agent --data " + dir + "/none"},
		{dir + "/a$b", "start it with: ztm run agent --data '" + dir + "/a$b'"},
	} {
		c := New(Config{})
		c.data = tt.data
		_, err := c.Meshes(context.Background())
		var h *apps.HintError
		if !errors.As(err, &h) || h.Hint != tt.hint || err.Error() != "cannot reach the agent at "+tt.data+"/agent.sock: is it running?" {
			t.Errorf("got %v, hint %q", err, h.Hint)
		}
	}
}

func TestAnAgentThatWasKilledIsNotRunning(t *testing.T) {
	a := apitest.New(t, nil)
	dir := a.Dir + "/killed"
	leaveSocket(t, dir)
	c := New(Config{})
	c.data = dir
	if _, err := c.Meshes(context.Background()); err == nil || !strings.HasSuffix(err.Error(), "is it running?") {
		t.Errorf("got %v", err)
	}
}
