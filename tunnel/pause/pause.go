// Package pause waits for time to pass: before something is tried again, or done again.
package pause

import (
	"context"
	"time"
)

// For waits for d, or until ctx ends, and reports whether the time is over: false is the end of ctx.
// With a d of zero or less it looks at ctx alone.
func For(ctx context.Context, d time.Duration) bool { return OrWake(ctx, d, nil) }

// OrWake is [For], but is over as soon as wake delivers, too. A nil wake never does.
func OrWake(ctx context.Context, d time.Duration, wake <-chan struct{}) bool {
	if ctx.Err() != nil {
		return false
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-wake:
	case <-ctx.Done():
		return false
	}
	return true
}
