package local

import (
	"context"
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

func TestTheDoorOfTheLocalAPI(t *testing.T) {
	const token = "secret"
	address := serving(t, func(ctx context.Context, ln net.Listener) error {
		return Serve(ctx, ln, token, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {}), quiet)
	})
	for _, tt := range []struct {
		name, method, host string
		header             []string
		want               int
	}{
		{"a question with the token", "GET", "", []string{api.TokenHeader, token}, 200},
		{"without the token", "GET", "", nil, 401},
		{"with another token", "GET", "", []string{api.TokenHeader, token + "x"}, 401},
		{"a change", "POST", "", []string{api.TokenHeader, token, api.ClientHeader, "1"}, 200},
		{"a change that a form could send", "POST", "", []string{api.TokenHeader, token}, 403},
		{"by the name of a web page", "GET", "evil.example", []string{api.TokenHeader, token}, 403},
		{"from a web page", "GET", "", []string{api.TokenHeader, token, "Origin", "http://evil.example"}, 403},
	} {
		if got, _ := appstest.Ask(t, tt.method, "http://"+address, "", append(tt.header, "Host", tt.host)...); got != tt.want {
			t.Errorf("%s: status %d, want %d", tt.name, got, tt.want)
		}
	}
}

func TestAnAgentWithoutATokenLetsNobodyIn(t *testing.T) {
	address := serving(t, func(ctx context.Context, ln net.Listener) error {
		return Serve(ctx, ln, "", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {}), quiet)
	})
	for _, header := range [][]string{nil, {api.TokenHeader, ""}} {
		if got, _ := appstest.Ask(t, "GET", "http://"+address, "", header...); got != http.StatusUnauthorized {
			t.Errorf("%q: status %d", header, got)
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
		got, body := appstest.Ask(t, "GET", "http://"+address+tt.path, "", "Host", tt.host)
		if got != tt.want {
			t.Errorf("%s of host %q: status %d, want %d", tt.path, tt.host, got, tt.want)
		}
		if shown := strings.Contains(body, `ztm_test{mesh="demo"} 1`); shown != (tt.want == 200 && tt.path != "/healthz") {
			t.Errorf("%s of host %q: %s", tt.path, tt.host, body)
		}
	}
}

func TestHealthIsThatOfEveryMesh(t *testing.T) {
	failing := source{answer.Errorf(answer.Unavailable, "not connected")}
	address := serving(t, func(ctx context.Context, ln net.Listener) error { return Counters(ctx, ln, failing, quiet) })
	if got, _ := appstest.Ask(t, "GET", "http://"+address+"/healthz", ""); got != http.StatusServiceUnavailable {
		t.Errorf("status %d", got)
	}
}
