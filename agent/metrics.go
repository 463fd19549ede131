package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"

	"ztm/agent/api"
	"ztm/tunnel/answer"
)

// Counters for Prometheus, on loopback and only if asked for:
//
//	/metrics         the agent: one set of lines for each mesh
//	/metrics/MESH    the tunnels of that mesh
//	/healthz         200 while every mesh is connected, otherwise 503
//
// What they show (names of meshes, tunnels and targets) is for this machine's users.

// checkMetrics refuses to show counters to anybody but this machine.
func checkMetrics(address string) error {
	if address == "" {
		return nil
	}
	if a, err := netip.ParseAddrPort(address); err != nil || !a.Addr().IsLoopback() {
		return fmt.Errorf("metrics address %q: want a loopback address:port such as 127.0.0.1:9101", address)
	}
	return nil
}

// listenMetrics opens the listener; nil without an address.
func listenMetrics(address string) (net.Listener, error) {
	if address == "" {
		return nil, nil
	}
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	return ln, nil
}

// serveMetrics serves until the agent stops.
func (a *Agent) serveMetrics(ln net.Listener) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", a.getHealth)
	mux.HandleFunc("GET /metrics", a.getMetrics)
	mux.HandleFunc("GET /metrics/{mesh}", func(w http.ResponseWriter, r *http.Request) {
		m, err := a.mesh(r.PathValue("mesh"))
		if err != nil {
			answer.Fail(w, a.log, err)
			return
		}
		r.URL.Path = "/metrics"
		m.apps["tunnel"].API().ServeHTTP(w, r)
	})
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(a.log.Handler(), slog.LevelDebug)}
	defer context.AfterFunc(a.life, func() { srv.Close() })()
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		a.log.Error("metrics are not served any more", "err", err)
	}
}

func (a *Agent) getHealth(w http.ResponseWriter, _ *http.Request) {
	for _, m := range a.all() {
		if d := m.describe(); d.Status != api.Connected {
			answer.Fail(w, a.log, answer.Errorf(answer.Unavailable, "mesh %s: %s", d.Name, d.Status))
			return
		}
	}
	fmt.Fprintln(w, "ok")
}

func (a *Agent) getMetrics(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4")
	meshes := a.all()
	for _, metric := range []struct {
		name, kind, help string
		value            func(*mesh) uint64
	}{
		{"ztm_mesh_connected", "gauge", "1 while the control session stands", func(m *mesh) uint64 {
			if m.describe().Status == api.Connected {
				return 1
			}
			return 0
		}},
		{"ztm_mesh_flows", "gauge", "flows that are open", func(m *mesh) uint64 { return uint64(m.stats().Flows) }},
		{"ztm_mesh_sent_bytes_total", "counter", "payload sent to peers", func(m *mesh) uint64 { return m.stats().Sent }},
		{"ztm_mesh_received_bytes_total", "counter", "payload received from peers", func(m *mesh) uint64 { return m.stats().Received }},
		{"ztm_mesh_trust_version", "gauge", "version of the eviction list", func(m *mesh) uint64 { return m.describe().Trust }},
	} {
		fmt.Fprintf(w, "# HELP %s %s\n# TYPE %s %s\n", metric.name, metric.help, metric.name, metric.kind)
		for _, m := range meshes {
			fmt.Fprintf(w, "%s{mesh=%q} %d\n", metric.name, m.name, metric.value(m))
		}
	}
}
