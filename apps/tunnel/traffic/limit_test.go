package traffic

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// between fails the test unless a duration is in a range. The clock is that of a synctest bubble.
func between(t *testing.T, d, low, high time.Duration) {
	t.Helper()
	if d < low || d > high {
		t.Errorf("it took %v, want %v to %v", d, low, high)
	}
}

func TestBucketKeepsItsRateForAllFlowsTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b bucket
		b.set(1e6)
		begin := time.Now()
		var flows sync.WaitGroup
		for range 10 {
			flows.Go(func() {
				for range 100 {
					b.pass(10_000, nil)
				}
			})
		}
		flows.Wait() // 10 MB
		between(t, time.Since(begin), 9900*time.Millisecond, 10100*time.Millisecond)

		<-time.After(time.Hour) // what was not used is not saved up
		begin = time.Now()
		for range 100 {
			b.pass(10_000, nil)
		}
		between(t, time.Since(begin), 900*time.Millisecond, 1010*time.Millisecond)
	})
}

func TestBucketServesInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b bucket
		b.set(1e6)
		var mu sync.Mutex
		var order []int
		var flows sync.WaitGroup
		for i := range 5 {
			flows.Go(func() {
				b.pass(1e6, nil)
				mu.Lock()
				defer mu.Unlock()
				order = append(order, i)
			})
			synctest.Wait()
		}
		flows.Wait()
		if fmt.Sprint(order) != "[0 1 2 3 4]" {
			t.Errorf("served in the order %v", order)
		}
	})
}

func TestBucketChangesItsRateForThoseWhoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b bucket
		b.set(1000)
		var waiting sync.WaitGroup
		begin := time.Now()
		waiting.Go(func() { b.pass(1e6, nil) })
		synctest.Wait()
		b.set(1e6)
		waiting.Wait()
		between(t, time.Since(begin), 900*time.Millisecond, 1100*time.Millisecond)

		waiting.Go(func() { b.pass(1e9, nil) })
		synctest.Wait()
		b.set(0)
		waiting.Wait()
		between(t, time.Since(begin), 900*time.Millisecond, 1100*time.Millisecond)

		b.set(1000)
		done := make(chan struct{})
		waiting.Go(func() { b.pass(1e9, done) })
		synctest.Wait()
		close(done)
		waiting.Wait()
	})
}
