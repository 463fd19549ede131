package tunnel

import (
	"maps"
	"slices"
	"strconv"

	"ztm/apps/balance"
	"ztm/apps/tunnel/spec"
	"ztm/apps/tunnel/traffic"
	"ztm/tunnel/metric"
)

// Metrics implements [apps.Measured]. Labels are names of tunnels, IDs of endpoints and addresses
// of targets: there are as many samples as there are of these.
func (a *App) Metrics(w *metric.Writer) { a.Status().metrics(w) }

func (s Status) metrics(w *metric.Writer) {
	for _, in := range s.Inbound {
		addStats(w.With("end", spec.InboundKind, "tunnel", in.Key.String()), in.Stats)
		for i, l := range in.Listeners {
			w.Gauge("ztm_tunnel_listening", "1 while the port is open.", truth(l.Open),
				"tunnel", in.Key.String(), "listen", l.Address, "index", strconv.Itoa(i))
		}
	}
	for _, o := range s.Outbound {
		addStats(w.With("end", spec.OutboundKind, "tunnel", o.Key.String()), o.Stats)
		for _, h := range o.Health {
			if h.State != balance.Untried {
				w.Gauge("ztm_tunnel_target_up", "1 if the target answered when it was last tried.", truth(h.State == balance.Up),
					"tunnel", o.Key.String(), "target", h.Name)
			}
		}
	}
	addStats(w.With("end", spec.ForwardPath, "tunnel", spec.ForwardPath), s.Forward)
}

func addStats(w *metric.Writer, s traffic.Stats) {
	for _, p := range s.Peers {
		addCounts(w.With("peer", string(p.ID)), p.Counts)
	}
	w.Counter("ztm_tunnel_dropped_datagrams_total", "Datagrams that were dropped.", s.Dropped)
	for _, code := range slices.Sorted(maps.Keys(s.Errors)) {
		w.Counter("ztm_tunnel_errors_total", "Flows that failed, by the code of the failure.", s.Errors[code], "error", string(code))
	}
}

func addCounts(w *metric.Writer, c traffic.Counts) {
	w.Gauge("ztm_tunnel_flows", "Flows that are open.", c.Active)
	w.Counter("ztm_tunnel_flows_total", "Flows that were opened.", c.Flows)
	w.Counter("ztm_tunnel_up_bytes_total", "Bytes from clients.", c.Up)
	w.Counter("ztm_tunnel_down_bytes_total", "Bytes to clients.", c.Down)
}

func truth(b bool) int64 {
	if b {
		return 1
	}
	return 0
}
