package cli

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"ztm/apps"
	"ztm/apps/tunnel"
	"ztm/apps/tunnel/entrance"
	"ztm/apps/tunnel/exit"
	"ztm/apps/tunnel/spec"
	"ztm/apps/tunnel/traffic"
	"ztm/tunnel/answer"
)

// stats lists what passed through the tunnels of the chosen endpoint, or through one of them.
func (c *client) stats(ctx context.Context, name string) error {
	var s tunnel.Status
	if err := c.Call(ctx, http.MethodGet, spec.AppName+"/tunnels", nil, &s); err != nil {
		return err
	}
	if name != "" {
		k, err := parseKey(name)
		if err != nil {
			return err
		}
		s.Inbound = slices.DeleteFunc(s.Inbound, func(in entrance.Status) bool { return in.Key != k })
		s.Outbound = slices.DeleteFunc(s.Outbound, func(o exit.Status) bool { return o.Key != k })
		s.Allow, s.Forward = []spec.Allow{}, traffic.Stats{}
		if len(s.Inbound)+len(s.Outbound) == 0 {
			return missingHint(answer.Errorf(answer.NotFound, "the endpoint has no end of tunnel %s", k))
		}
	}
	return c.Print(s, statsTable(s, func(p traffic.PeerCounts) string { return c.name(ctx, p.ID) }))
}

func countsText(c traffic.Counts) string {
	return fmt.Sprintf("%s, %d now, %s up, %s down", count(c.Flows, "flow"), c.Active, apps.Amount(c.Up), apps.Amount(c.Down))
}

// count is a number of things: "1 flow", "2 flows".
func count(n int64, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return fmt.Sprintf("%d %s", n, thing)
}

// statsTable lists what passed, by tunnel and peer.
func statsTable(s tunnel.Status, name func(traffic.PeerCounts) string) *apps.Table {
	t := &apps.Table{Header: []string{"END", "TUNNEL", "PEER", "ACTIVE", "FLOWS", "UP", "DOWN", "DROPPED", "ERRORS"}}
	row := func(end, tunnel, peer string, c traffic.Counts, rest ...string) {
		cells := []string{end, tunnel, peer, fmt.Sprint(c.Active), fmt.Sprint(c.Flows), apps.Amount(c.Up), apps.Amount(c.Down)}
		t.Add(append(cells, rest...)...)
	}
	add := func(end, tunnel string, s traffic.Stats) {
		row(end, tunnel, "(all)", s.Counts, fmt.Sprint(s.Dropped), errorText(&s))
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
		add(spec.ForwardPath, "-", f)
	}
	return t
}

// errorText lists the errors, "-" if there are none.
func errorText(s *traffic.Stats) string {
	var list []string
	for _, code := range slices.Sorted(maps.Keys(s.Errors)) {
		list = append(list, fmt.Sprintf("%s %d", code, s.Errors[code]))
	}
	if len(list) == 0 {
		return "-"
	}
	return strings.Join(list, ", ")
}

// cells returns the columns FLOWS, UP and DOWN.
func cells(s *traffic.Stats) []string {
	return []string{strconv.FormatInt(s.Flows, 10), apps.Amount(s.Up), apps.Amount(s.Down)}
}
