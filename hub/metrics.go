package hub

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"ztm/tunnel/answer"
	"ztm/tunnel/loopback"
)

// metrics are the hub's counters. No label comes from a peer: there are as many lines as this file has, and routes.
type metrics struct {
	handshakes struct{ ok, failed atomic.Int64 }
	refused    struct{ rate, strangers atomic.Int64 } // connections, before their handshake
	joins      struct{ ok, refused atomic.Int64 }
	events     struct{ dropped, cut atomic.Int64 } // dial-backs without room; agents cut off because they did not read
	carriers   carrierMetrics

	mu       sync.Mutex
	requests map[request]int64
}

type request struct{ route, result string }

type carrierMetrics struct {
	open, started, bytes                      atomic.Int64
	limited, offline, unknown, timeout, other atomic.Int64
}

// refused counts a carrier that did not come about, by the reason.
func (m *carrierMetrics) refused(err error) {
	switch answer.CodeOf(err) {
	case answer.Limit:
		m.limited.Add(1)
	case answer.Unavailable:
		m.offline.Add(1)
	case answer.NotFound:
		m.unknown.Add(1)
	case answer.Timeout:
		m.timeout.Add(1)
	default:
		m.other.Add(1)
	}
}

func newMetrics() *metrics { return &metrics{requests: map[request]int64{}} }

// request counts an answered request: by the code of its refusal, or as "ok".
func (m *metrics) request(route string, err error) {
	result := "ok"
	if err != nil {
		result = string(answer.CodeOf(err))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.requests[request{route, result}]++
}

// listenMetrics opens the port for the counters; nil where none is wanted.
func listenMetrics(address string) (net.Listener, error) {
	if address == "" {
		return nil, nil
	}
	ln, err := loopback.Listen(address)
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	return ln, nil
}

// serveMetrics serves /metrics and /healthz until ctx ends.
func (s *server) serveMetrics(ctx context.Context, ln net.Listener) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok\n") })
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		s.writeMetrics(w)
	})
	if err := loopback.Serve(ctx, ln, mux, s.log); err != nil {
		s.log.Error("metrics", "err", err)
	}
}

// writeMetrics writes the counters as Prometheus reads them.
func (s *server) writeMetrics(w io.Writer) {
	m := s.metrics
	gauge := func(name, help string, v int64) {
		fmt.Fprintf(w, "# HELP %[1]s %[2]s\n# TYPE %[1]s gauge\n%[1]s %[3]d\n", name, help, v)
	}
	counter := func(name, help string) { fmt.Fprintf(w, "# HELP %[1]s %[2]s\n# TYPE %[1]s counter\n", name, help) }

	gauge("ztm_hub_endpoints", "Endpoints in the directory.", int64(s.registry.size()))
	gauge("ztm_hub_agents_online", "Agents with an events stream.", s.registry.online.Load())
	gauge("ztm_hub_trust_version", "Version of the trust list in force.", int64(s.verifier.Trust().Version()))
	gauge("ztm_hub_carriers_open", "Carriers that stand.", m.carriers.open.Load())
	gauge("ztm_hub_goroutines", "Goroutines.", int64(runtime.NumGoroutine()))
	if rss, fds, ok := process(); ok {
		gauge("ztm_hub_resident_memory_bytes", "Resident memory.", rss)
		gauge("ztm_hub_open_fds", "Open file descriptors.", fds)
	}

	counter("ztm_hub_carriers_total", "Carriers that were joined.")
	fmt.Fprintf(w, "ztm_hub_carriers_total %d\n", m.carriers.started.Load())
	counter("ztm_hub_carriers_refused_total", "Carriers that did not come about.")
	for _, r := range []struct {
		reason string
		n      *atomic.Int64
	}{
		{"limit", &m.carriers.limited}, {"offline", &m.carriers.offline}, {"unknown", &m.carriers.unknown},
		{"timeout", &m.carriers.timeout}, {"other", &m.carriers.other},
	} {
		fmt.Fprintf(w, "ztm_hub_carriers_refused_total{reason=%q} %d\n", r.reason, r.n.Load())
	}
	counter("ztm_hub_relayed_bytes_total", "Bytes of carriers that have ended, both directions.")
	fmt.Fprintf(w, "ztm_hub_relayed_bytes_total %d\n", m.carriers.bytes.Load())
	counter("ztm_hub_events_dropped_total", "Events for which there was no room, because an agent did not read.")
	fmt.Fprintf(w, "ztm_hub_events_dropped_total{result=\"refused\"} %d\nztm_hub_events_dropped_total{result=\"cut\"} %d\n",
		m.events.dropped.Load(), m.events.cut.Load())
	counter("ztm_hub_handshakes_total", "TLS handshakes.")
	fmt.Fprintf(w, "ztm_hub_handshakes_total{result=\"ok\"} %d\nztm_hub_handshakes_total{result=\"failed\"} %d\n",
		m.handshakes.ok.Load(), m.handshakes.failed.Load())
	counter("ztm_hub_connections_refused_total", "Connections that were closed before their handshake.")
	fmt.Fprintf(w, "ztm_hub_connections_refused_total{reason=\"rate\"} %d\nztm_hub_connections_refused_total{reason=\"strangers\"} %d\n",
		m.refused.rate.Load(), m.refused.strangers.Load())
	counter("ztm_hub_joins_total", "Requests to join by a token.")
	fmt.Fprintf(w, "ztm_hub_joins_total{result=\"ok\"} %d\nztm_hub_joins_total{result=\"refused\"} %d\n",
		m.joins.ok.Load(), m.joins.refused.Load())
	counter("ztm_hub_requests_total", "Control requests by route and result.")
	m.writeRequests(w)
}

func (m *metrics) writeRequests(w io.Writer) {
	m.mu.Lock()
	lines := make([]string, 0, len(m.requests))
	for r, n := range m.requests {
		lines = append(lines, fmt.Sprintf("ztm_hub_requests_total{route=%q,result=%q} %d\n", r.route, r.result, n))
	}
	m.mu.Unlock()
	slices.Sort(lines)
	io.WriteString(w, strings.Join(lines, ""))
}
