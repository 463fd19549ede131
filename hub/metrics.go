package hub

import (
	"cmp"
	"context"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"

	"ztm/tunnel/answer"
	"ztm/tunnel/loopback"
	"ztm/tunnel/metric"
)

// metrics are the hub's counters. No label comes from a peer: there are as many lines as this file
// has, and routes.
type metrics struct {
	handshakes struct{ ok, failed atomic.Int64 }
	refused    struct{ rate, handshakes atomic.Int64 } // connections, before their handshake
	joins      struct{ ok, refused atomic.Int64 }
	cut        atomic.Int64 // agents cut off because they did not read
	loops      atomic.Int64 // hops that were to go further

	mu       sync.Mutex
	requests map[request]int64
}

type request struct{ route, result string }

func newMetrics() *metrics { return &metrics{requests: map[request]int64{}} }

// request counts an answered request: by the code of its refusal, or as "ok".
func (m *metrics) request(route string, err error) {
	result := "ok"
	if err != nil {
		result = string(answer.CodeOf(err))
	}
	m.mu.Lock()
	m.requests[request{route, result}]++
	m.mu.Unlock()
}

// serveMetrics serves /metrics and /healthz until ctx ends.
func (s *server) serveMetrics(ctx context.Context, ln net.Listener) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok\n") })
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		var set metric.Set
		s.addMetrics(set.With())
		set.Answer(w)
	})
	if err := loopback.Serve(ctx, ln, mux, s.log); err != nil {
		s.log.Error("metrics", "err", err)
	}
}

// addMetrics adds the counters.
func (s *server) addMetrics(w *metric.Writer) {
	m, l, p := s.metrics, s.links.Metrics(), s.relay.Metrics()
	size, online := s.directory.Size()
	w.Gauge("ztm_hub_endpoints", "Endpoints in the directory.", int64(size))
	w.Gauge("ztm_hub_agents_online", "Agents with an events stream.", int64(online))
	w.Gauge("ztm_hub_trust_version", "Version of the trust list in force.", int64(s.verifier.Trust().Version()))
	w.Gauge("ztm_hub_paths_open", "Paths that stand.", p.Open.Load())
	w.Gauge("ztm_hub_links", "Hubs that this one is linked with.", int64(s.links.Linked()))
	w.Process("ztm_hub")
	w.Counter("ztm_hub_paths_total", "Paths that were joined.", p.Started.Load())
	w.Counter("ztm_hub_links_lost_total", "Hubs that were silent.", l.Lost.Load())
	w.Counter("ztm_hub_relayed_bytes_total", "Bytes of paths that have ended, both directions.", p.Bytes.Load())
	for _, c := range []struct {
		name, help, label, value string
		n                        *atomic.Int64
	}{
		{"ztm_hub_paths_refused_total", "Paths that did not come about.", "reason", "limit", &p.Limited},
		{"ztm_hub_paths_refused_total", "", "reason", "offline", &p.Offline},
		{"ztm_hub_paths_refused_total", "", "reason", "unknown", &p.Unknown},
		{"ztm_hub_paths_refused_total", "", "reason", "timeout", &p.Timeout},
		{"ztm_hub_paths_refused_total", "", "reason", "other", &p.Other},
		{"ztm_hub_events_dropped_total", "Events for which there was no room, because an agent did not read.", "result", "refused", &p.Dropped},
		{"ztm_hub_events_dropped_total", "", "result", "cut", &m.cut},
		{"ztm_hub_handshakes_total", "TLS handshakes.", "result", "ok", &m.handshakes.ok},
		{"ztm_hub_handshakes_total", "", "result", "failed", &m.handshakes.failed},
		{"ztm_hub_connections_refused_total", "Connections that were closed before their handshake.", "reason", "rate", &m.refused.rate},
		{"ztm_hub_connections_refused_total", "", "reason", "handshakes", &m.refused.handshakes},
		{"ztm_hub_joins_total", "Requests to join by a token.", "result", "ok", &m.joins.ok},
		{"ztm_hub_joins_total", "", "result", "refused", &m.joins.refused},
		{"ztm_hub_hops_total", "Paths to agents of other hubs.", "result", "ok", &l.Hops},
		{"ztm_hub_hops_total", "", "result", "moved", &l.NotHere},
		{"ztm_hub_hops_total", "", "result", "limit", &l.Limited},
		{"ztm_hub_hops_total", "", "result", "failed", &l.Failed},
		{"ztm_hub_links_refused_total", "What other hubs said or did that they must not.", "reason", "attach", &l.Forged},
		{"ztm_hub_links_refused_total", "", "reason", "loop", &m.loops},
	} {
		w.Counter(c.name, c.help, c.n.Load(), c.label, c.value)
	}
	m.addRequests(w)
	if s.shared != nil {
		s.shared.AddMetrics(w)
	}
}

func (m *metrics) addRequests(w *metric.Writer) {
	m.mu.Lock()
	requests := maps.Clone(m.requests)
	m.mu.Unlock()
	byName := func(a, b request) int { return cmp.Or(cmp.Compare(a.route, b.route), cmp.Compare(a.result, b.result)) }
	for _, r := range slices.SortedFunc(maps.Keys(requests), byName) {
		w.Counter("ztm_hub_requests_total", "Control requests by route and result.", requests[r], "route", r.route, "result", r.result)
	}
}
