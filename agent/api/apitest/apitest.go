// Package apitest is an agent that answers what a test wants it to, on a real socket, to test what
// talks to agents.
package apitest

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"sync"
	"testing"

	"ztm/agent/api"
	"ztm/tunnel/answer"
)

// Agent is an agent in a data directory of its own.
type Agent struct {
	Dir string

	token   string
	answers map[string]any

	mu       sync.Mutex
	requests []string // guarded by mu
}

// New runs an agent until the end of the test. The keys of answers are "METHOD /path?query". An
// answer is a failure if it is an [*answer.Error], text if it is a string, whatever it does if it
// is an [http.HandlerFunc], nothing if it is nil, and JSON otherwise.
func New(t testing.TB, answers map[string]any) *Agent {
	t.Helper()
	dir, err := os.MkdirTemp("", "ztm-test-") // t.TempDir is often too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l, token, err := api.Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	a := &Agent{Dir: dir, token: token, answers: maps.Clone(answers)}
	server := &http.Server{Handler: a}
	var done sync.WaitGroup
	done.Go(func() { server.Serve(l) })
	t.Cleanup(func() {
		server.Close()
		done.Wait()
	})
	return a
}

// Changes returns, and forgets, the requests other than GET since the last call: "POST /path BODY".
func (a *Agent) Changes() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := a.requests
	a.requests = nil
	return out
}

// ServeHTTP answers a request as the real agent would: to its own user alone, and only if a browser
// did not send it.
func (a *Agent) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	request := r.Method + " " + r.URL.RequestURI()
	found, known := a.answers[request]
	switch {
	case r.Header.Get(api.TokenHeader) != a.token:
		found = answer.Errorf(answer.Denied, "wrong token")
	case r.Method != http.MethodGet && r.Header.Get(api.ClientHeader) != "1":
		found = answer.Errorf(answer.Denied, "missing header %s", api.ClientHeader)
	case !known:
		found = answer.Errorf(answer.NotFound, "nothing at %s", request)
	}
	if do, ok := found.(http.HandlerFunc); ok {
		do(w, r)
		return
	}
	if r.Method != http.MethodGet {
		body, _ := io.ReadAll(r.Body)
		a.mu.Lock()
		a.requests = append(a.requests, fmt.Sprintf("%s %s", request, body))
		a.mu.Unlock()
	}
	switch v := found.(type) {
	case nil:
		w.WriteHeader(http.StatusNoContent)
	case string:
		io.WriteString(w, v)
	case *answer.Error:
		w.WriteHeader(v.Status())
		json.NewEncoder(w).Encode(v)
	default:
		json.NewEncoder(w).Encode(v)
	}
}
