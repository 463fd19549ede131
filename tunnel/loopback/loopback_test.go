package loopback

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"testing"
	"time"

	"ztm/apps/appstest"
)

const timeout = 60 * time.Second

// serve serves "ok" until the test ends.
func serve(t *testing.T) (address string) {
	t.Helper()
	ln, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- Serve(ctx, ln, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") }), slog.New(slog.DiscardHandler))
	}()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("Serve: %v", err)
			}
		case <-time.After(timeout):
			t.Error("Serve does not end")
		}
	})
	return ln.Addr().String()
}

func TestOnlyRequestsToThisMachineByItsOwnNamePass(t *testing.T) {
	address := serve(t)
	for _, tt := range []struct {
		host, origin string
		status       int
	}{
		{"", "", 200}, // the address itself
		{"localhost", "", 200},
		{"localhost:9100", "", 200},
		{"127.0.0.1", "", 200},
		{"127.8.9.10:1", "", 200},
		{"[::1]", "", 200},
		{"[::1]:9100", "", 200},
		{"localhost:9100", "http://localhost:9100", 200},
		{"evil.example", "", 403},
		{"evil.example:9100", "", 403},
		{"localhost.evil.example:9100", "", 403},
		{"127.0.0.1.evil.example", "", 403},
		{"10.0.0.1", "", 403},
		{"0.0.0.0:9100", "", 403},
		{"[::]", "", 403},
		{"[[::1]]", "", 403},
		{"[::1", "", 403},
		{"localhost:evil", "", 403},
		{"2130706433", "", 403}, // 127.0.0.1 as some resolvers read it
		{"localhost:9100", "http://evil.example", 403},
		{"localhost:9100", "http://localhost:3000", 403},
		{"localhost:9100", "https://localhost:9100", 403},
		{"localhost:9100", "null", 403},
	} {
		if status, _ := appstest.Ask(t, "GET", "http://"+address+"/", "", "Host", tt.host, "Origin", tt.origin); status != tt.status {
			t.Errorf("Host %q, Origin %q: status %d, want %d", tt.host, tt.origin, status, tt.status)
		}
	}
}

func TestConnectionsThatSayNothingKeepNobodyOutForLong(t *testing.T) {
	address := serve(t)
	for range maxConnections {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	late := time.After(timeout)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ask(address) {
		select {
		case <-tick.C:
		case <-late:
			t.Fatal("no answer while others are silent")
		}
	}
}

// ask reports whether a request over a new connection is answered.
func ask(address string) bool {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return false
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Second))
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

func TestOnlyLoopbackAddressesAreListenedOn(t *testing.T) {
	for address, ok := range map[string]bool{
		"127.0.0.1:9100": true, "[::1]:0": true, "127.1.2.3:1": true,
		"0.0.0.0:9100": false, ":9100": false, "10.0.0.1:9100": false, "localhost:9100": false, "127.0.0.1": false, "": false,
	} {
		if err := Check(address); (err == nil) != ok {
			t.Errorf("%q: %v", address, err)
		}
	}
	if ln, err := Listen("0.0.0.0:0"); err == nil {
		ln.Close()
		t.Error("it listens on all addresses")
	}
}

func TestAPortApartHasAnAddressOfItsOwn(t *testing.T) {
	seen := map[string]bool{}
	for range 3 {
		ln, err := ListenApart()
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		if err := Check(ln.Addr().String()); err != nil {
			t.Error(err)
		}
		host, _, _ := net.SplitHostPort(ln.Addr().String())
		seen[host] = true
		r := httptest.NewRequest(http.MethodGet, "http://"+ln.Addr().String()+"/", nil)
		r.Header.Set("Origin", "http://"+ln.Addr().String())
		w := httptest.NewRecorder()
		Guard(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})).ServeHTTP(w, r)
		if w.Code != http.StatusOK {
			t.Errorf("a page of %s may not ask it: %d", ln.Addr(), w.Code)
		}
	}
	if runtime.GOOS == "linux" && (len(seen) != 3 || seen["127.0.0.1"]) {
		t.Errorf("three ports apart have the addresses %v", seen)
	}
}
