package relay

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"ztm/hub/limits"
	"ztm/tunnel"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
)

// late is a hub with one agent that dials back to nobody. If it is there, it answers a PING.
type late struct{ there bool }

func (l late) Find(identity.ID) (string, Session, error) { return "b", l, nil }
func (late) Name(id identity.ID) string                  { return string(id) }
func (late) Offer(int, *tunnel.Event) bool               { return true }
func (late) Ended() <-chan struct{}                      { return nil }
func (l late) Ping(ctx context.Context) error {
	if l.there {
		return nil
	}
	<-ctx.Done()
	return ctx.Err()
}

func TestAnEndpointThatSleepsIsNotWaitedForAsLongAsOneThatIsSlow(t *testing.T) {
	for there, want := range map[bool][2]time.Duration{false: {0, 5 * time.Second}, true: {TicketLife, TicketLife}} {
		synctest.Test(t, func(t *testing.T) {
			r := New(Config{Limits: limits.Limits{}.WithDefaults(), Ticket: TicketLife, Sessions: late{there}, Log: slog.New(slog.DiscardHandler),
				Pace: NewPace(limits.PathRate, limits.RootPathRate, 100)})
			start := time.Now()
			err := r.Hop(t.Context(), &Leg{ID: "a", User: "alice", Hop: true}, "b", "hub")
			if took := time.Since(start); answer.CodeOf(err) != answer.Timeout || took < want[0] || took > want[1] {
				t.Errorf("it answers a PING: %v; after %v: %v", there, took, err)
			}
		})
	}
}
