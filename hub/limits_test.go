package hub

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"ztm/tunnel/memory"
)

func TestLimitsFollowTheMemory(t *testing.T) {
	large := Limits{Agents: 10_000, EndpointsPerUser: 1000, Carriers: 20_000, CarriersPerUser: 2000, Pending: 128, PendingAt: 256,
		Legs: 128, Control: 4, Handshakes: 1024, HandshakesPerSource: 256, Joins: 256, JoinsPerSource: 64}
	for _, tt := range []struct {
		name   string
		memory int64
		said   Limits
		want   Limits
	}{
		{"unknown", 0, Limits{}, large},
		{"a server", 4 << 30, Limits{}, large},
		{"a router", 64 << 20, Limits{}, Limits{Agents: 256, EndpointsPerUser: 256, Carriers: 512, CarriersPerUser: 256, Pending: 128,
			PendingAt: 256, Legs: 64, Control: 4, Handshakes: 64, HandshakesPerSource: 32, Joins: 64, JoinsPerSource: 16}},
		{"a router whose owner knows better", 64 << 20, Limits{Agents: 5000, Carriers: 3000}, Limits{Agents: 5000, EndpointsPerUser: 1000,
			Carriers: 3000, CarriersPerUser: 1500, Pending: 128, PendingAt: 256, Legs: 64, Control: 4, Handshakes: 64, HandshakesPerSource: 32, Joins: 64, JoinsPerSource: 16}},
		{"a container of nearly nothing", 4 << 20, Limits{}, Limits{Agents: 16, EndpointsPerUser: 16, Carriers: 32, CarriersPerUser: 16,
			Pending: 128, PendingAt: 256, Legs: 16, Control: 4, Handshakes: 64, HandshakesPerSource: 16, Joins: 16, JoinsPerSource: 4}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, tt.said.within(memory.Limit{Bytes: tt.memory})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
