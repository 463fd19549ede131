package relay

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ztm/hub/limits"
	"ztm/tunnel"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	"ztm/tunnel/limit"
)

// nobody are the sessions of a hub without agents. It counts who is looked for.
type nobody struct{ asked *atomic.Int64 }

func (n nobody) Find(identity.ID) (string, Session, error) {
	n.asked.Add(1)
	return "", nil, answer.Errorf(answer.NotFound, "there is nobody")
}

func (nobody) Name(id identity.ID) string { return string(id) }

// A path costs four handshakes. A user in a loop gets so many in a second, and waits for each "no"; the
// others do not wait.
func TestPathsOfOneUserTakeTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const burst, rate, loops = 5, 10, 40
		var asked atomic.Int64
		r := New(Config{
			Limits: limits.Limits{}.WithDefaults(), Ticket: time.Second, Sessions: nobody{&asked}, Log: slog.New(slog.DiscardHandler),
			Pace: NewPace(limit.Rate{Burst: burst, PerSecond: rate}, limit.Rate{}, 100),
		})
		ctx, cancel := context.WithCancel(t.Context())
		var refused atomic.Int64
		var wg sync.WaitGroup
		for range loops {
			wg.Go(func() {
				for ctx.Err() == nil {
					err := r.Hop(ctx, &Leg{ID: "a", User: "mallory", Hop: true}, "b", "hub")
					if answer.CodeOf(err) == answer.Limit {
						refused.Add(1)
					}
					<-time.After(time.Millisecond)
				}
			})
		}
		<-time.After(10*time.Second - time.Millisecond)
		if got := asked.Load(); got > burst+10*rate {
			t.Errorf("a user in a loop opened %d paths in 10 s, want at most %d", got, burst+10*rate)
		}
		// Of 40 loops the wait for a path holds 20, and the wait for a "no" the others: 10 a second.
		if got := refused.Load(); got == 0 || got > 10*loops/2 {
			t.Errorf("a user in a loop was refused %d times in 10 s", got)
		}
		before, start := asked.Load(), time.Now()
		r.Hop(ctx, &Leg{ID: "c", User: "carol", Hop: true}, "b", "hub")
		if asked.Load() == before || time.Since(start) != 0 {
			t.Errorf("another user waited %v", time.Since(start))
		}
		cancel()
		wg.Wait()
	})
}

// Half of what a user may open is left to the other endpoints of that user, and a hub that names a
// user takes nothing from what the user may open here.
func TestOneEndpointLeavesTheOthersOfItsUserTheirPaths(t *testing.T) {
	p := NewPace(limit.Rate{Burst: 10, PerSecond: 2}, limit.Rate{}, 100)
	now := time.Now()
	loop := func(a *Leg) (n int) {
		for range 100 {
			if _, ok := p.reserve(a, now); ok {
				n++
			}
		}
		return n
	}
	if n := loop(&Leg{ID: "phone", User: "bob"}); n < 5 || n > 8 {
		t.Errorf("one endpoint opened %d paths at once", n)
	}
	loop(&Leg{ID: "phone", User: "bob", Hop: true, Hub: "hub"})
	if wait, ok := p.reserve(&Leg{ID: "laptop", User: "bob"}, now); !ok || wait != 0 {
		t.Errorf("another endpoint of the same user waits %v, %t", wait, ok)
	}
}

func TestAHubThatEndsDoesNotWaitForSlowUsers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(Config{
			Limits: limits.Limits{}.WithDefaults(), Ticket: time.Second, Sessions: nobody{new(atomic.Int64)}, Log: slog.New(slog.DiscardHandler),
			Pace: NewPace(limit.Rate{}, limit.Rate{}, 100),
		})
		got := make(chan error, 1)
		go func() { got <- r.Hop(t.Context(), &Leg{ID: "a", User: "alice", Hop: true}, "b", "hub") }()
		synctest.Wait()
		start := time.Now()
		<-r.Drain()
		if err := <-got; err != errShutdown || time.Since(start) != 0 {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
	})
}

// An endpoint of root tells each endpoint of a new version of the policy, and its paths are as many.
func TestRootReachesTenThousandEndpointsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const endpoints, atOnce, takes = 10_000, 400, 200 * time.Millisecond
		far := &slow{takes: takes}
		r := New(Config{Limits: limits.Limits{}.WithDefaults(), Ticket: time.Minute, Sessions: far, Log: slog.New(slog.DiscardHandler),
			Pace: NewPace(limits.PathRate, limits.RootPathRate, 100)})
		start := time.Now()
		targets := make(chan identity.ID, endpoints)
		for i := range endpoints {
			targets <- identity.ID(fmt.Sprint(i))
		}
		close(targets)
		var refused atomic.Int64
		var wg sync.WaitGroup
		for range atOnce {
			wg.Go(func() {
				for to := range targets {
					if err := r.Hop(t.Context(), &Leg{ID: "a", User: "root", Hop: true}, to, "hub"); answer.CodeOf(err) == answer.Limit {
						refused.Add(1)
					}
				}
			})
		}
		wg.Wait()
		if took := time.Since(start); refused.Load() != 0 || far.asked.Load() != endpoints || took > 5*time.Second {
			t.Errorf("%d paths took %v, and %d were refused", far.asked.Load(), took, refused.Load())
		}
	})
}

// slow are the sessions of a hub whose agents end after a while, each time a path waits for them.
type slow struct {
	takes time.Duration
	asked atomic.Int64
}

func (s *slow) Find(identity.ID) (string, Session, error) {
	s.asked.Add(1)
	return "b", &ending{time.NewTimer(s.takes), make(chan struct{})}, nil
}

func (*slow) Name(id identity.ID) string { return string(id) }

// ending is a session that ends when a timer says so.
type ending struct {
	timer *time.Timer
	ended chan struct{}
}

func (e *ending) Offer(int, *tunnel.Event) bool {
	go func() {
		<-e.timer.C
		close(e.ended)
	}()
	return true
}

func (e *ending) Ended() <-chan struct{} { return e.ended }

func (*ending) Ping(context.Context) error { return nil }
