package hub

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"ztm/tunnel"
)

func TestMetricsCountWhatTheHubDoes(t *testing.T) {
	h := start(t, func(c *Config) { c.Metrics = "127.0.0.1:0" })
	a, b := h.device("alice").online("a"), h.device("bob").online("b")
	near, far := pair(t, a, b, openers["connection"], openers["connection"])
	eventually(t, "the path is counted", func() bool { return h.metric("ztm_hub_carriers_open") == 1 })
	io.WriteString(near, "12345")
	if _, err := io.ReadFull(far, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	near.Close()
	far.Close()
	eventually(t, "the path has ended", func() bool { return h.metric("ztm_hub_carriers_open") == 0 })
	if _, err := a.carry(h.device("carol").id, ""); err == nil {
		t.Error("a path to nobody")
	}
	a.Call(t.Context(), "GET", "/v1/nothing", nil, nil, nil)
	h.try(start(t).device("alice").config(tunnel.ControlProto))
	for name, want := range map[string]int64{
		"ztm_hub_endpoints":                                                      2,
		"ztm_hub_agents_online":                                                  2,
		"ztm_hub_carriers_total":                                                 1,
		"ztm_hub_relayed_bytes_total":                                            5,
		`ztm_hub_carriers_refused_total{reason="unknown"}`:                       1,
		`ztm_hub_handshakes_total{result="failed"}`:                              1,
		`ztm_hub_requests_total{route="put",result="ok"}`:                        2,
		`ztm_hub_requests_total{route="unknown",result="destination_not_found"}`: 1,
		"ztm_hub_trust_version":                                                  0,
		`ztm_hub_connections_refused_total{reason="strangers"}`:                  0,
		`ztm_hub_joins_total{result="ok"}`:                                       0,
		`ztm_hub_carriers_refused_total{reason="connection_broken"}`:             -1,
	} {
		eventually(t, name, func() bool { return h.metric(name) == want })
	}
}

// Values that peers choose must not become labels: any peer could then fill the memory of whatever
// counts.
func TestNothingThatPeersSayIsInTheMetrics(t *testing.T) {
	h := start(t, func(c *Config) { c.Metrics = "127.0.0.1:0" })
	a := h.device("alice-user").online("alice-endpoint")
	a.Call(t.Context(), "GET", "/v1/odd-path", nil, nil, nil)
	a.Call(t.Context(), "ODD", tunnel.PathHub, nil, nil, nil)
	resp, err := http.Get("http://" + h.started.Metrics.String() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"alice", "odd", "ODD", string(a.id)} {
		if strings.Contains(string(b), s) {
			t.Errorf("the metrics have %q", s)
		}
	}
}

func TestMetricsAreForThisMachineAlone(t *testing.T) {
	h := start(t, func(c *Config) { c.Metrics = "127.0.0.1:0" })
	base := "http://" + h.started.Metrics.String()
	cases := []struct {
		name, path, host string
		status           int
	}{
		{"health", "/healthz", "", 200},
		{"by name", "/healthz", "localhost:9100", 200},
		{"by IPv6 address", "/healthz", "[::1]:9100", 200},
		{"by a name that leads here", "/metrics", "evil.example:9100", 403},
		{"by another address", "/metrics", "10.0.0.1", 403},
		{"unknown", "/debug/pprof/", "", 404},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), "GET", base+c.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Host = c.host
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != c.status {
				t.Errorf("status %d, want %d", resp.StatusCode, c.status)
			}
		})
	}
}
