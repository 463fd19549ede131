// Command metrics collects the load and memory of all endpoints that have this app: GET /here is this
// endpoint, GET / is all of them.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
)

// api asks the agent, at the socket that belongs to this app alone.
var api = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
	DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", os.Getenv("ZTM_API"))
	}}}

// Endpoint is an endpoint that has this app, as the agent tells.
type Endpoint struct {
	ID, Name      string
	Online, Local bool
}

// Sample is what one endpoint says of itself.
type Sample struct {
	Load   string `json:"load,omitempty"`
	Memory string `json:"memory,omitempty"`
	Error  string `json:"error,omitempty"`
}

// here measures this endpoint, as far as the app may see it.
func here() Sample {
	var s Sample
	if b, err := os.ReadFile("/proc/loadavg"); err == nil {
		s.Load, _, _ = strings.Cut(string(b), " ")
	}
	if b, err := os.ReadFile("/proc/meminfo"); err == nil {
		for line := range strings.Lines(string(b)) {
			if v, ok := strings.CutPrefix(line, "MemAvailable:"); ok {
				s.Memory = strings.TrimSpace(v)
			}
		}
	}
	return s
}

// get reads JSON from the agent, or from this app at another endpoint.
func get(path string, v any) error {
	resp, err := api.Get("http://ztm" + path)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s", resp.Status)
	}
	return json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(v)
}

// all asks this app at all endpoints at once.
func all() (map[string]Sample, error) {
	var endpoints []Endpoint
	if err := get("/v1/endpoints", &endpoints); err != nil {
		return nil, err
	}
	var mu sync.Mutex
	var asking sync.WaitGroup
	samples := map[string]Sample{}
	for _, e := range endpoints {
		asking.Add(1)
		go func() {
			defer asking.Done()
			s := here()
			if !e.Local {
				s = Sample{}
				if err := get("/v1/at/"+e.ID+"/here", &s); err != nil {
					s.Error = err.Error()
				}
			}
			mu.Lock()
			defer mu.Unlock()
			samples[e.Name] = s
		}()
	}
	asking.Wait()
	return samples, nil
}

func main() {
	listener, err := net.FileListener(os.NewFile(3, "ztm"))
	if err != nil {
		log.Fatal(err)
	}
	answer := func(w http.ResponseWriter, v any, err error) {
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(v)
	}
	http.HandleFunc("GET /here", func(w http.ResponseWriter, _ *http.Request) { answer(w, here(), nil) })
	http.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		v, err := all()
		answer(w, v, err)
	})
	log.Fatal(http.Serve(listener, nil))
}
