package limit

import (
	"testing"
	"time"
)

func TestRatesAreBucketsThatFillAgain(t *testing.T) {
	b := NewBuckets[string](Rate{Burst: 3, PerSecond: 2}, 100)
	now := time.Unix(1000, 0)
	steps := []struct {
		name  string
		after time.Duration
		key   string
		want  bool
	}{
		{"first", 0, "a", true},
		{"second", 0, "a", true},
		{"third", 0, "a", true},
		{"over the burst", 0, "a", false},
		{"another key", 0, "b", true},
		{"half a second later", 500 * time.Millisecond, "a", true},
		{"one was enough for one", 0, "a", false},
		{"a clock that goes back gives nothing", -time.Hour, "a", false},
		{"a long time later", 2 * time.Hour, "a", true},
		{"no more than a burst has gathered", 0, "a", true},
		{"no more than a burst has gathered", 0, "a", true},
		{"no more than a burst has gathered", 0, "a", false},
	}
	for _, s := range steps {
		now = now.Add(s.after)
		if got := b.Take(s.key, now); got != s.want {
			t.Errorf("%s: got %v", s.name, got)
		}
	}
	b.Sweep(now)
	if _, there := b.all["b"]; there {
		t.Error("a full bucket is kept")
	}
	if _, there := b.all["a"]; !there {
		t.Error("an empty bucket is forgotten")
	}
}

func TestTokensThatAreReservedAreWaitedForInTurn(t *testing.T) {
	b := NewBuckets[string](Rate{Burst: 1, PerSecond: 10}, 100)
	now := time.Unix(1000, 0)
	const ms = time.Millisecond
	for i, want := range []time.Duration{0, 100 * ms, 200 * ms} {
		if wait, ok := b.Reserve("a", 200*ms, now); !ok || wait != want {
			t.Errorf("the %d. waits %v, want %v (%v)", i+1, wait, want, ok)
		}
	}
	for range 2 { // who is refused takes nothing
		if _, ok := b.Reserve("a", 200*ms, now); ok {
			t.Error("a token beyond the timeout was reserved")
		}
	}
	if _, ok := b.Reserve("b", 0, now); !ok {
		t.Error("another key has no token")
	}
	if b.Take("a", now.Add(200*ms)) {
		t.Error("a token was taken that is another's")
	}
	if wait, ok := b.Reserve("a", 200*ms, now.Add(100*ms)); !ok || wait > 200*ms {
		t.Errorf("after a token flowed in: %v, %v", wait, ok)
	}
	never := NewBuckets[string](Rate{Burst: 1}, 100)
	never.Take("a", now)
	if _, ok := never.Reserve("a", time.Hour, now); ok {
		t.Error("a bucket without a rate has another token")
	}
}

func TestATableOfBucketsHasABoundAndForgetsNoMoreThanItMust(t *testing.T) {
	const most = 50
	b := NewBuckets[int](Rate{Burst: 1}, most)
	now := time.Unix(1000, 0)
	for key := range most {
		b.Take(key, now)
	}
	for key := range 10 {
		b.Take(1000+key, now)
	}
	if len(b.all) != most {
		t.Errorf("%d buckets, want %d", len(b.all), most)
	}
	empty := 0
	for key := range most {
		if _, there := b.all[key]; there && !b.Take(key, now) {
			empty++
		}
	}
	if empty < most-10 {
		t.Errorf("10 new keys made the table forget %d of %d", most-empty, most)
	}
}

func TestCountsHoldAndForget(t *testing.T) {
	var c Counts[string]
	for i, want := range []bool{true, true, false} {
		if got := c.Acquire("a", 2); got != want {
			t.Errorf("the %d. place of two: %v", i+1, got)
		}
	}
	if !c.Acquire("b", 1) {
		t.Error("a place of another key is taken")
	}
	c.Release("a")
	if c.Count("a") != 1 || !c.Acquire("a", 2) {
		t.Error("what was released is not free")
	}
	c.Release("a")
	c.Release("a")
	c.Release("b")
	if len(c.all) != 0 {
		t.Errorf("%d keys hold nothing and are kept", len(c.all))
	}
}
