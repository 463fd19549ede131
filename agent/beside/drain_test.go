package beside

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// leaver is an agent that has flows until an instant.
type leaver struct {
	until     time.Time
	withdrawn atomic.Bool
}

func (l *leaver) Withdraw() { l.withdrawn.Store(true) }
func (l *leaver) Active() int {
	if time.Now().Before(l.until) {
		return 1
	}
	return 0
}

func TestAnAgentThatEndsWaitsForItsFlows(t *testing.T) {
	wait := func(ctx context.Context) error { <-ctx.Done(); return nil }
	for _, tt := range []struct {
		name         string
		flows, limit time.Duration
		from, to     time.Duration
	}{
		{"without flows it still takes some", 0, time.Minute, acceptStill, acceptStill + time.Second},
		{"a flow is waited for", 20 * time.Second, time.Minute, 20 * time.Second, 21 * time.Second},
		{"a flow that does not end is cut", time.Hour, time.Minute, time.Minute, time.Minute},
		{"no time is given", time.Hour, 0, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				a := &leaver{until: time.Now().Add(tt.flows)}
				cancel()
				began := time.Now()
				if err := Drain(wait, a, tt.limit)(ctx); err != nil {
					t.Error(err)
				}
				if took := time.Since(began); took < tt.from || took > tt.to {
					t.Errorf("it ended after %v", took)
				}
				if a.withdrawn.Load() != (tt.limit > 0) {
					t.Errorf("withdrawn: %v", a.withdrawn.Load())
				}
			})
		})
	}
}

func TestAnAgentThatFailsIsNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		began := time.Now()
		if err := Drain(func(context.Context) error { return context.Canceled }, &leaver{}, time.Hour)(ctx); err != context.Canceled || time.Since(began) != 0 {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		cancel()
	})
}
