package hub

import (
	"io"
	"strings"
	"testing"

	"ztm/apps/appstest"
	"ztm/tunnel"
)

func TestMetricsCountWhatTheHubDoes(t *testing.T) {
	h := start(t, func(c *Config) { c.Metrics = "127.0.0.1:0" })
	a, b := h.device("alice").online("a"), h.device("bob").online("b")
	near, far := pair(t, a, b, openers["connection"], openers["connection"])
	eventually(t, "the path is counted", func() bool { return h.metric("ztm_hub_paths_open") == 1 })
	io.WriteString(near, "12345")
	if _, err := io.ReadFull(far, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	near.Close()
	far.Close()
	eventually(t, "the path has ended", func() bool { return h.metric("ztm_hub_paths_open") == 0 })
	if _, err := a.carry(h.device("carol").id, ""); err == nil {
		t.Error("a path to nobody")
	}
	a.Call(t.Context(), "GET", "/v1/nothing", nil, nil, nil)
	h.try(start(t).device("alice").config(tunnel.ControlProto))
	for name, want := range map[string]int64{
		"ztm_hub_endpoints":                                                      2,
		"ztm_hub_agents_online":                                                  2,
		"ztm_hub_paths_total":                                                    1,
		"ztm_hub_relayed_bytes_total":                                            5,
		`ztm_hub_paths_refused_total{reason="unknown"}`:                          1,
		`ztm_hub_handshakes_total{result="failed"}`:                              1,
		`ztm_hub_requests_total{route="put",result="ok"}`:                        2,
		`ztm_hub_requests_total{route="unknown",result="destination_not_found"}`: 1,
		"ztm_hub_trust_version":                                                  0,
		`ztm_hub_connections_refused_total{reason="handshakes"}`:                 0,
		`ztm_hub_joins_total{result="ok"}`:                                       0,
		`ztm_hub_paths_refused_total{reason="connection_broken"}`:                -1,
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
	_, text := appstest.Ask(t, "GET", "http://"+h.started.Metrics.String()+"/metrics", "")
	for _, s := range []string{"alice", "odd", "ODD", string(a.id)} {
		if strings.Contains(text, s) {
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
			if status, _ := appstest.Ask(t, "GET", base+c.path, "", "Host", c.host); status != c.status {
				t.Errorf("status %d, want %d", status, c.status)
			}
		})
	}
}
