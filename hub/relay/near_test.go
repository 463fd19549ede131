package relay

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	"ztm/hub/limits"
	"ztm/tunnel"
	"ztm/tunnel/identity"
	"ztm/tunnel/limit"
)

// one is a hub with one agent, which answers each dial-back with a leg.
type one struct {
	r   *Relay
	leg *Leg
}

func (o *one) Find(identity.ID) (string, Session, error) { return "b", o, nil }
func (o *one) Name(id identity.ID) string                { return string(id) }
func (o *one) Ended() <-chan struct{}                    { return nil }
func (o *one) Ping(context.Context) error                { return nil }
func (o *one) Offer(_ int, e *tunnel.Event) bool {
	go o.r.Settle("b", e.Ticket, o.leg)
	return true
}

func TestBothEndsHearWhetherTheyAreSeenAtOneAddress(t *testing.T) {
	here, there := netip.MustParseAddr("203.0.113.1"), netip.MustParseAddr("203.0.113.2")
	for name, tt := range map[string]struct {
		a, b netip.Addr
		want bool
	}{
		"behind one NAT":            {here, here, true},
		"at two addresses":          {here, there, false},
		"one is a stream":           {here, netip.Addr{}, false},
		"both are seen by no one":   {netip.Addr{}, netip.Addr{}, false},
		"one is behind another hub": {netip.Addr{}, there, false},
	} {
		var heard []bool
		leg := func(at netip.Addr) *Leg {
			return &Leg{At: at, Finish: func() {}, Accept: func(near bool) (net.Conn, error) {
				heard = append(heard, near)
				c, far := net.Pipe()
				far.Close()
				return c, nil
			}}
		}
		o := &one{leg: leg(tt.b)}
		o.r = New(Config{Limits: limits.Limits{}.WithDefaults(), Ticket: time.Minute, Sessions: o, Log: slog.New(slog.DiscardHandler),
			Pace: NewPace(limit.Rate{Burst: 9}, limit.Rate{}, 9)})
		if err := o.r.connect(t.Context(), leg(tt.a), "b"); err != nil {
			t.Fatal(err)
		}
		if len(heard) != 2 || heard[0] != tt.want || heard[1] != tt.want {
			t.Errorf("%s: they hear %v, want %v", name, heard, tt.want)
		}
	}
}
