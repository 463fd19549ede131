package tunnel

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"ztm/apps"
	"ztm/apps/balance"
)

// WriteMetrics writes the counters in the text format of Prometheus. Labels are names of tunnels, IDs of endpoints and
// addresses of targets: there are as many lines as there are of these.
func (s Status) WriteMetrics(w io.Writer) error {
	m := metrics{}
	for _, in := range s.Inbound {
		m.stats("inbound", in.Key.String(), in.Stats)
		for i, l := range in.Listeners {
			labels := fmt.Sprintf("tunnel=%q,listen=%q,index=\"%d\"", in.Key, l.Address, i)
			m.add("ztm_tunnel_listening", gauge, labels, truth(l.Open))
		}
	}
	for _, o := range s.Outbound {
		m.stats("outbound", o.Key.String(), o.Stats)
		for _, h := range o.Health {
			if h.State == balance.Untried {
				continue
			}
			m.add("ztm_tunnel_target_up", gauge, fmt.Sprintf("tunnel=%q,target=%q", o.Key, h.Name), truth(h.State == balance.Up))
		}
	}
	m.stats(forwardPath, forwardPath, s.Forward)
	return m.write(w)
}

const (
	counterType = "counter"
	gauge       = "gauge"
)

// metrics is lines by the name of their metric, which come first with its type.
type metrics map[string][]string

func (m metrics) add(name, kind, labels string, value int64) {
	if m[name] == nil {
		m[name] = []string{"# TYPE " + name + " " + kind + "\n"}
	}
	m[name] = append(m[name], fmt.Sprintf("%s{%s} %d\n", name, labels, value))
}

func (m metrics) stats(kind, tunnel string, s Stats) {
	labels := fmt.Sprintf("end=%q,tunnel=%q", kind, tunnel)
	for _, p := range s.Peers {
		m.counts(fmt.Sprintf("%s,peer=%q", labels, p.ID), p.Counts)
	}
	m.add("ztm_tunnel_dropped_datagrams_total", counterType, labels, s.Dropped)
	for _, code := range slices.Sorted(maps.Keys(s.Errors)) {
		m.add("ztm_tunnel_errors_total", counterType, fmt.Sprintf("%s,error=%q", labels, code), s.Errors[code])
	}
}

func (m metrics) counts(labels string, c Counts) {
	m.add("ztm_tunnel_flows", gauge, labels, c.Active)
	m.add("ztm_tunnel_flows_total", counterType, labels, c.Flows)
	m.add("ztm_tunnel_up_bytes_total", counterType, labels, c.Up)
	m.add("ztm_tunnel_down_bytes_total", counterType, labels, c.Down)
}

func (m metrics) write(w io.Writer) error {
	for _, name := range slices.Sorted(maps.Keys(m)) {
		if _, err := io.WriteString(w, strings.Join(m[name], "")); err != nil {
			return err
		}
	}
	return nil
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
