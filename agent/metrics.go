package agent

import (
	"net"

	"ztm/agent/api"
	"ztm/agent/local"
	"ztm/apps"
	"ztm/tunnel/answer"
	"ztm/tunnel/metric"
)

// counters is what this agent counts. It implements [local.Source].
type counters struct{ a *Agent }

var _ local.Source = counters{}

// serveMetrics serves counters until the agent stops.
func (a *Agent) serveMetrics(ln net.Listener) {
	if err := local.Counters(a.life, ln, counters{a}, a.log); err != nil {
		a.log.Error("metrics are not served", "err", err)
	}
}

// Health returns the first mesh that is not connected, as an error.
func (c counters) Health() error {
	for _, m := range c.a.all() {
		if d := m.describe(); d.Status != api.Connected {
			return answer.Errorf(answer.Unavailable, "mesh %s: %s", d.Name, d.Status)
		}
	}
	return nil
}

// Counters adds the counters of one mesh or of all.
func (c counters) Counters(set *metric.Set, name string) error {
	meshes := c.a.all()
	if name == "" {
		set.With().Process("ztm_agent")
	} else {
		m, err := c.a.mesh(name)
		if err != nil {
			return err
		}
		meshes = []*mesh{m}
	}
	for _, m := range meshes {
		m.metrics(set.With("mesh", m.name).Beside(m.known.Labels))
	}
	return nil
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
	m.peers.Metrics(w)
	for _, app := range m.apps {
		if app, ok := app.(apps.Measured); ok {
			app.Metrics(w)
		}
	}
}
