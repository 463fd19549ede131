package beside

import (
	"context"
	"time"
)

// acceptStill is how long an agent that ends takes new flows: others hear a moment later that it
// goes.
const acceptStill = 5 * time.Second

// Leaver is an agent that can end without cutting flows.
type Leaver interface {
	Withdraw()   // offers nothing any longer
	Active() int // flows that run
}

// Drain returns work that does not end at once when its context does: it is given as long as flows
// run, and time at most. What runs beside it ends at once.
//
//	ctx ends -> Withdraw -> 5 s in which flows still come -> no flow runs, or the time is over -> work ends
func Drain(work Work, a Leaver, limit time.Duration) Work {
	if limit <= 0 {
		return work
	}
	return func(ctx context.Context) error {
		inner, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
		defer cancel(nil)
		ended := make(chan struct{})
		leaving := make(chan struct{})
		go func() { // ends with the work
			defer close(leaving)
			select {
			case <-ctx.Done():
				leave(a, limit, ended)
				cancel(context.Cause(ctx))
			case <-ended:
			}
		}()
		err := work(inner)
		close(ended)
		<-leaving
		return err
	}
}

// leave returns when an agent may end.
func leave(a Leaver, limit time.Duration, ended <-chan struct{}) {
	const look = 100 * time.Millisecond
	a.Withdraw()
	late, tick := time.NewTimer(limit), time.NewTicker(look)
	defer late.Stop()
	defer tick.Stop()
	since := time.Now()
	for {
		select {
		case <-tick.C:
			if time.Since(since) >= acceptStill && a.Active() == 0 {
				return
			}
		case <-late.C:
			return
		case <-ended:
			return
		}
	}
}
