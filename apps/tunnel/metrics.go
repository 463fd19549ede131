package tunnel

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"ztm/apps"
	"ztm/apps/balance"
	"ztm/tunnel/metric"
)

// Metrics implements [apps.Measured]. Labels are names of tunnels, IDs of endpoints and addresses of targets: there are as many
// samples as there are of these.
func (a *App) Metrics(w *metric.Writer) { a.Status().metrics(w) }

func (s Status) metrics(w *metric.Writer) {
	for _, in := range s.Inbound {
		in.Stats.metrics(w.With("end", inboundKind, "tunnel", in.Key.String()))
		for i, l := range in.Listeners {
			w.Gauge("ztm_tunnel_listening", "1 while the port is open.", truth(l.Open),
				"tunnel", in.Key.String(), "listen", l.Address, "index", strconv.Itoa(i))
		}
	}
	for _, o := range s.Outbound {
		o.Stats.metrics(w.With("end", outboundKind, "tunnel", o.Key.String()))
		for _, h := range o.Health {
			if h.State != balance.Untried {
				w.Gauge("ztm_tunnel_target_up", "1 if the target answered when it was last tried.", truth(h.State == balance.Up),
					"tunnel", o.Key.String(), "target", h.Name)
			}
		}
	}
	s.Forward.metrics(w.With("end", forwardPath, "tunnel", forwardPath))
}

func (s Stats) metrics(w *metric.Writer) {
	for _, p := range s.Peers {
		p.Counts.metrics(w.With("peer", string(p.ID)))
	}
	w.Counter("ztm_tunnel_dropped_datagrams_total", "Datagrams that were dropped.", s.Dropped)
	for _, code := range slices.Sorted(maps.Keys(s.Errors)) {
		w.Counter("ztm_tunnel_errors_total", "Flows that failed, by the code of the failure.", s.Errors[code], "error", string(code))
	}
}

func (c Counts) metrics(w *metric.Writer) {
	w.Gauge("ztm_tunnel_flows", "Flows that are open.", c.Active)
	w.Counter("ztm_tunnel_flows_total", "Flows that were opened.", c.Flows)
	w.Counter("ztm_tunnel_up_bytes_total", "Bytes from clients.", c.Up)
	w.Counter("ztm_tunnel_down_bytes_total", "Bytes to clients.", c.Down)
}

// statsTable lists what passed, by tunnel and peer.
func (s Status) statsTable(name func(PeerCounts) string) *apps.Table {
	t := &apps.Table{Header: []string{"END", "TUNNEL", "PEER", "ACTIVE", "FLOWS", "UP", "DOWN", "DROPPED", "ERRORS"}}
	row := func(end, tunnel, peer string, c Counts, rest ...string) {
		cells := []string{end, tunnel, peer, fmt.Sprint(c.Active), fmt.Sprint(c.Flows), fmt.Sprint(c.Up), fmt.Sprint(c.Down)}
		t.Add(append(cells, rest...)...)
	}
	add := func(end, tunnel string, s Stats) {
		row(end, tunnel, "(all)", s.Counts, fmt.Sprint(s.Dropped), s.errorText())
		for _, p := range s.Peers {
			row(end, tunnel, name(p), p.Counts, "", "")
		}
	}
	for _, in := range s.Inbound {
		add("inbound", in.Key.String(), in.Stats)
	}
	for _, o := range s.Outbound {
		add("outbound", o.Key.String(), o.Stats)
	}
	if f := s.Forward; f.Flows > 0 || len(f.Errors) > 0 {
		add(forwardPath, "-", f)
	}
	return t
}

// errorText lists the errors, "-" if there are none.
func (s *Stats) errorText() string {
	var list []string
	for _, code := range slices.Sorted(maps.Keys(s.Errors)) {
		list = append(list, fmt.Sprintf("%s %d", code, s.Errors[code]))
	}
	if len(list) == 0 {
		return "-"
	}
	return strings.Join(list, ", ")
}

func truth(b bool) int64 {
	if b {
		return 1
	}
	return 0
}
