package agent

import (
	"net/http"
	"sync"
	"testing"
)

func TestCountersAreForThisMachineAlone(t *testing.T) {
	a := newTestAgent(t)
	ln, err := listenMetrics("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { a.serveMetrics(ln) })
	defer wg.Wait()
	defer a.stop(nil)
	for host, want := range map[string]int{"": http.StatusOK, "localhost": http.StatusOK, "evil.example": http.StatusForbidden} {
		for _, path := range []string{"/metrics", "/healthz"} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+ln.Addr().String()+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Host, req.Close = host, true
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != want {
				t.Errorf("%s of host %q: status %d, want %d", path, host, resp.StatusCode, want)
			}
		}
	}
}
