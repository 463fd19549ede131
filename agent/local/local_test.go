package local

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"

	"ztm/agent/api"
	"ztm/apps/appstest"
	"ztm/tunnel/answer"
	"ztm/tunnel/metric"
)

func TestMain(m *testing.M) { os.Exit(appstest.Run(m)) }

var quiet = slog.New(slog.DiscardHandler)

// serving runs a server on a port of this machine until the test ends.
func serving(t *testing.T, serve func(context.Context, net.Listener) error) (address string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := serve(ctx, ln); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	return ln.Addr().String()
}

// ask sends a request with a header and returns the status and the body.
func ask(t *testing.T, method, address, path, host string, header http.Header) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+address+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header, req.Host, req.Close = header, host, true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestTheDoorOfTheLocalAPI(t *testing.T) {
	const token = "secret"
	address := serving(t, func(ctx context.Context, ln net.Listener) error {
		return Serve(ctx, ln, token, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {}), quiet)
	})
	header := func(pairs ...string) http.Header {
		h := http.Header{}
		for i := 0; i < len(pairs); i += 2 {
			h.Set(pairs[i], pairs[i+1])
		}
		return h
	}
	for _, tt := range []struct {
		name, method, host string
		header             http.Header
		want               int
	}{
		{"a question with the token", "GET", "", header(api.TokenHeader, token), 200},
		{"without the token", "GET", "", header(), 401},
		{"with another token", "GET", "", header(api.TokenHeader, token+"x"), 401},
		{"a change", "POST", "", header(api.TokenHeader, token, api.ClientHeader, "1"), 200},
		{"a change that a form could send", "POST", "", header(api.TokenHeader, token), 403},
		{"by the name of a web page", "GET", "evil.example", header(api.TokenHeader, token), 403},
		{"from a web page", "GET", "", header(api.TokenHeader, token, "Origin", "http://evil.example"), 403},
	} {
		if got, _ := ask(t, tt.method, address, "/", tt.host, tt.header); got != tt.want {
			t.Errorf("%s: status %d, want %d", tt.name, got, tt.want)
		}
	}
}

// source is a mesh "demo" that is connected or not.
type source struct{ err error }

func (s source) Health() error { return s.err }

func (s source) Counters(set *metric.Set, mesh string) error {
	if mesh != "" && mesh != "demo" {
		return answer.Errorf(answer.NotFound, "no such mesh")
	}
	set.With("mesh", "demo").Gauge("ztm_test", "A test.", 1)
	return nil
}

func TestCountersAreForThisMachineAlone(t *testing.T) {
	address := serving(t, func(ctx context.Context, ln net.Listener) error { return Counters(ctx, ln, source{}, quiet) })
	for _, tt := range []struct {
		path, host string
		want       int
	}{
		{"/metrics", "", 200}, {"/metrics/demo", "", 200}, {"/healthz", "", 200}, {"/metrics", "localhost", 200},
		{"/metrics/other", "", 404}, {"/", "", 404},
		{"/metrics", "evil.example", 403}, {"/healthz", "evil.example", 403},
	} {
		got, body := ask(t, "GET", address, tt.path, tt.host, http.Header{})
		if got != tt.want {
			t.Errorf("%s of host %q: status %d, want %d", tt.path, tt.host, got, tt.want)
		}
		if shown := strings.Contains(body, `ztm_test{mesh="demo"} 1`); shown != (tt.want == 200 && tt.path != "/healthz") {
			t.Errorf("%s of host %q: %s", tt.path, tt.host, body)
		}
	}
}

func TestHealthIsThatOfEveryMesh(t *testing.T) {
	sick := source{answer.Errorf(answer.Unavailable, "not connected")}
	address := serving(t, func(ctx context.Context, ln net.Listener) error { return Counters(ctx, ln, sick, quiet) })
	if got, _ := ask(t, "GET", address, "/healthz", "", http.Header{}); got != http.StatusServiceUnavailable {
		t.Errorf("status %d", got)
	}
}
