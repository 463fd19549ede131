package cli

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"ztm/apps/appstest"
	"ztm/apps/tunnel/tunneltest"
	"ztm/tunnel/metric"
)

func TestStatisticsAreKeptByTunnelAndPeer(t *testing.T) {
	var n appstest.Net
	a, b, other := tunneltest.Join(t, &n, "laptop", "alice"), tunneltest.Join(t, &n, "home", "alice"), tunneltest.Join(t, &n, "shop", "bob")
	b.Offer(t, "tcp/web", tunneltest.Server(t, "web"))
	b.Offer(t, "tcp/dead", appstest.FreeAddress(t))
	tunneltest.WantGreeting(t, a.Listen(t, "tcp/web"), "web")
	tunneltest.WantReset(t, other.Listen(t, "tcp/web", fmt.Sprintf(`"exits":[%q]`, b.Self().ID)))
	tunneltest.WantReset(t, a.Listen(t, "tcp/dead"))
	appstest.Eventually(t, "the flow is over", func() bool { return b.OutboundStatus(t, "tcp/web").Stats.Active == 0 })

	var set metric.Set
	b.App.Metrics(set.With())
	var text strings.Builder
	set.WriteTo(&text)
	lines := strings.Split(text.String(), "\n")
	peer := fmt.Sprintf("{end=\"outbound\",tunnel=\"tcp/web\",peer=%q}", a.Self().ID)
	for _, want := range []string{
		"# TYPE ztm_tunnel_flows_total counter",
		"ztm_tunnel_flows_total" + peer + " 1",
		"ztm_tunnel_flows" + peer + " 0",
		"ztm_tunnel_down_bytes_total" + peer + " 4",
		`ztm_tunnel_errors_total{end="outbound",tunnel="tcp/web",error="http_request_denied"} 1`,
		`ztm_tunnel_errors_total{end="outbound",tunnel="tcp/dead",error="connection_refused"} 1`,
	} {
		if !slices.Contains(lines, want) {
			t.Errorf("%q is not in:\n%s", want, text.String())
		}
	}

	c := consoleAt(b)
	if out := c.mustRun(t, "stats", "tunnel", "tcp/web"); strings.Contains(out, "tcp/dead") || !strings.Contains(out, "tcp/web") {
		t.Errorf("of tcp/web alone:\n%s", out)
	}
	if _, err := c.run(t.Context(), "stats", "tunnel", "tcp/none"); err == nil {
		t.Error("there are statistics of a tunnel that is not there")
	}
	out := c.mustRun(t, "tunnel", "stats")
	for _, want := range []string{
		"outbound tcp/dead (all) 0 0 0 B 0 B 0 connection_refused 1",
		"outbound tcp/web (all) 0 1 0 B 4 B 0 http_request_denied 1",
		"outbound tcp/web laptop 0 1 0 B 4 B",
	} {
		if !slices.ContainsFunc(strings.Split(out, "\n"), func(l string) bool { return strings.Join(strings.Fields(l), " ") == want }) {
			t.Errorf("%q is not in:\n%s", want, out)
		}
	}
}
