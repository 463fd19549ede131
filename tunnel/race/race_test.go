package race

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// way is what a way does: after some time it succeeds or fails. One that is deaf does not hear that
// it was given up.
type way struct {
	after time.Duration
	err   error
	deaf  bool
}

// closing is a success that says when it is closed.
type closing func()

func (c closing) Close() error { c(); return nil }

// run has ways race, and returns which won, after how long, what was discarded and what was begun.
func run(t *testing.T, delay time.Duration, ways ...way) (winner int, took time.Duration, discarded []int, begun int, errs []error) {
	t.Helper()
	began, count := time.Now(), atomic.Int32{}
	_, winner, errs = First(t.Context(), len(ways), delay, func(ctx context.Context, i int) (io.Closer, error) {
		count.Add(1)
		done := ctx.Done()
		if ways[i].deaf {
			done = nil
		}
		select {
		case <-time.After(ways[i].after):
			return closing(func() { discarded = append(discarded, i) }), ways[i].err
		case <-done:
			return nil, ctx.Err()
		}
	})
	return winner, time.Since(began), discarded, int(count.Load()), errs
}

func TestTheFirstSuccessWinsAndNobodyWaitsForSilence(t *testing.T) {
	no := errors.New("no")
	for name, tt := range map[string]struct {
		ways      []way
		winner    int
		took      time.Duration
		discarded int
		begun     int
		errs      int
	}{
		"nothing to try":                {nil, -1, 0, 0, 0, 0},
		"the first answers soon":        {[]way{{after: 1}, {}}, 0, 1, 0, 1, 0},
		"the first is silent":           {[]way{{after: time.Hour}, {after: 5}}, 1, 15, 0, 2, 1},
		"the first fails":               {[]way{{after: 2, err: no}, {after: 5}}, 1, 7, 0, 2, 1},
		"the first is slow and wins":    {[]way{{after: 12}, {after: 5}}, 0, 12, 0, 2, 1},
		"another comes too late":        {[]way{{after: 16, deaf: true}, {after: 5}}, 1, 16, 1, 2, 0},
		"all fail":                      {[]way{{after: 3, err: no}, {after: 4, err: no}}, -1, 7, 0, 2, 2},
		"a failure does not end others": {[]way{{after: 30}, {err: no}, {err: no}}, 0, 30, 0, 3, 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				winner, took, discarded, begun, errs := run(t, 10, tt.ways...)
				if winner != tt.winner || took != tt.took || len(discarded) != tt.discarded || begun != tt.begun || len(errs) != tt.errs {
					t.Errorf("%d won after %v of %d, %d came too late, %v", winner, took, begun, len(discarded), errs)
				}
			})
		})
	}
}

func TestARaceThatIsGivenUpEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 25)
		defer cancel()
		_, winner, errs := First(ctx, 2, 10, func(ctx context.Context, _ int) (io.Closer, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		})
		if winner != -1 || len(errs) != 2 {
			t.Errorf("%d won: %v", winner, errs)
		}
	})
}
