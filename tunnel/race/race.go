// Package race tries several ways to the same end without waiting for one that stays silent, as
// RFC 8305 section 5 has it for addresses.
//
//	the first way begins -> delay, or it fails -> the next begins as well -> the first success wins
//	                                                                     └-> the others are given up
package race

import (
	"context"
	"io"
	"time"
)

// attempt is what became of one way.
type attempt struct {
	n   int
	got io.Closer
	err error
}

// First tries n ways, numbered from 0: each after delay, or at once when one has failed. It returns
// the first success and its number. The context of the others ends then; a success that comes too
// late all the same is closed. Without a success it returns nil, -1 and what each way said, in the
// order in which they failed. It returns when no attempt runs any longer.
func First(ctx context.Context, n int, delay time.Duration, try func(ctx context.Context, i int) (io.Closer, error)) (io.Closer, int, []error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var (
		won     io.Closer
		winner  = -1
		errs    []error
		begun   int
		running int
		results = make(chan attempt) // unbuffered: every attempt is waited for
		next    = time.NewTimer(0)
	)
	defer next.Stop()
	for {
		due := next.C
		if begun == n || winner >= 0 {
			if due = nil; running == 0 {
				return won, winner, errs
			}
		}
		select {
		case <-due:
			i := begun
			begun, running = begun+1, running+1
			go func() { // awaited by the receive below
				got, err := try(ctx, i)
				results <- attempt{i, got, err}
			}()
			next.Reset(delay)
		case a := <-results:
			running--
			switch {
			case a.err != nil:
				errs = append(errs, a.err)
				next.Reset(0)
			case winner < 0:
				won, winner = a.got, a.n
				cancel()
			default:
				a.got.Close()
			}
		}
	}
}
