package agent

import (
	"fmt"
	"net"
	"net/http"

	"ztm/agent/api"
	"ztm/apps"
	"ztm/tunnel/answer"
	"ztm/tunnel/loopback"
	"ztm/tunnel/metric"
)

// Counters for Prometheus, on loopback and only if asked for:
//
//	/metrics         the agent, its meshes and their apps
//	/metrics/MESH    that mesh alone
//	/healthz         200 while every mesh is connected, otherwise 503
//
// What they show (names of meshes, tunnels and targets) is for this machine's users.

// checkMetrics refuses to show counters to anybody but this machine.
func checkMetrics(address string) error {
	if address == "" {
		return nil
	}
	if err := loopback.Check(address); err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	return nil
}

// listenMetrics opens the listener; nil without an address.
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

// serveMetrics serves until the agent stops.
func (a *Agent) serveMetrics(ln net.Listener) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", a.getHealth)
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) { answerMetrics(w, a.all()...) })
	mux.HandleFunc("GET /metrics/{mesh}", func(w http.ResponseWriter, r *http.Request) {
		m, err := a.mesh(r.PathValue("mesh"))
		if err != nil {
			answer.Fail(w, a.log, err)
			return
		}
		answerMetrics(w, m)
	})
	if err := loopback.Serve(a.life, ln, mux, a.log); err != nil {
		a.log.Error("metrics are not served", "err", err)
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

func answerMetrics(w http.ResponseWriter, meshes ...*mesh) {
	var set metric.Set
	for _, m := range meshes {
		m.metrics(set.With("mesh", m.name))
	}
	set.Answer(w)
}

// metrics adds the counters of a mesh and of its apps.
func (m *mesh) metrics(w *metric.Writer) {
	d, s, connected := m.describe(), m.stats(), int64(0)
	if d.Status == api.Connected {
		connected = 1
	}
	w.Gauge("ztm_mesh_connected", "1 while the control session stands.", connected)
	w.Gauge("ztm_mesh_flows", "Flows that are open.", int64(s.Active))
	w.Counter("ztm_mesh_sent_bytes_total", "Payload sent to peers.", int64(s.Sent))
	w.Counter("ztm_mesh_received_bytes_total", "Payload received from peers.", int64(s.Received))
	w.Gauge("ztm_mesh_trust_version", "Version of the trust list.", int64(d.Trust))
	for _, app := range m.apps {
		if app, ok := app.(apps.Measured); ok {
			app.Metrics(w)
		}
	}
}
