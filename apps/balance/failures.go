package balance

import (
	"context"
	"errors"
	"sync"
	"time"
)

const (
	// holdMin and holdMax bound how long what has failed twice in a row is not tried again. The
	// time doubles with every failure. It is short: a repair should be found soon, and one attempt
	// in two seconds is cheap.
	holdMin = 100 * time.Millisecond
	holdMax = 2 * time.Second
	// forgetAfter is how long after the end of that time a failure counts as one in a row.
	forgetAfter = 30 * time.Second
	// maxFailures bounds what is remembered. Further ones are tried each time.
	maxFailures = 4096
)

// Failures remembers what failed lately, so that a client in a loop does not cause an attempt with
// each of its connections: these use up limits that others share, such as the requests that a hub
// takes. The zero value is ready, and all methods may be called from any goroutine.
//
//	first failure -> the next try may follow at once
//	second        -> no try for holdMin, then one at a time; doubling up to holdMax
//	success, or a long time without a try -> forgotten
type Failures struct {
	mu    sync.Mutex
	items map[string]*failure
	swept time.Time // when items that are over were last looked for
}

// failure is something that failed. All fields are guarded by Failures.mu.
type failure struct {
	err    error // the last
	count  int   // in a row
	until  time.Time
	trying bool // somebody tries again
}

// Try reports whether something may be tried now. If so, err is nil and the caller calls done with
// the outcome, once. Otherwise err is how it failed the last time. A cancellation is no outcome.
func (f *Failures) Try(key string) (done func(error), err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	x := f.items[key]
	switch {
	case x == nil || x.count < 2:
	case now.After(x.until.Add(forgetAfter)) && !x.trying:
		delete(f.items, key)
	case x.trying || now.Before(x.until):
		return nil, x.err
	default:
		x.trying = true
		return func(err error) { f.outcome(key, true, err) }, nil
	}
	return func(err error) { f.outcome(key, false, err) }, nil
}

func (f *Failures) outcome(key string, again bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	x := f.items[key]
	if again && x != nil {
		x.trying = false
	}
	now := time.Now()
	switch {
	case errors.Is(err, context.Canceled):
	case err == nil:
		delete(f.items, key)
	case x == nil:
		f.addLocked(key, &failure{err: err, count: 1, until: now})
	case now.Before(x.until): // it began before the last failure was known
	case x.count < 2 && now.After(x.until.Add(forgetAfter)):
		*x = failure{err: err, count: 1, until: now}
	default:
		x.err = err
		x.until = now.Add(min(holdMin<<min(x.count-1, 10), holdMax))
		x.count++
	}
}

// addLocked files a failure, in place of one that is over if there are many.
func (f *Failures) addLocked(key string, x *failure) {
	if f.items == nil {
		f.items = map[string]*failure{}
	}
	if len(f.items) >= maxFailures && x.until.Sub(f.swept) > time.Second {
		f.swept = x.until
		for k, old := range f.items {
			if !old.trying && x.until.After(old.until.Add(forgetAfter)) {
				delete(f.items, k)
			}
		}
	}
	if len(f.items) < maxFailures {
		f.items[key] = x
	}
}

// Forget forgets all failures: what was tried has changed.
func (f *Failures) Forget() {
	f.mu.Lock()
	clear(f.items)
	f.mu.Unlock()
}
