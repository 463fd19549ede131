// Package limit bounds what others can take of this process: requests in a time, things held at a
// time, and lines of a log.
//
//	Buckets  so many in a second, by key     a table of bounded size
//	Counts   so many at the same time, by key
//	Share    so many at the same time in all, and none of them for one key alone
//	Log      so many lines in a second, by key and in all, of bounded length
//
// A key names the peer that is limited: an address, an endpoint, a user. All types are safe for
// concurrent use.
package limit

import (
	"sync"
	"time"
)

// Rate is the measure of a token bucket: what it holds when it is full, and what flows into it in a
// second.
type Rate struct{ Burst, PerSecond float64 }

// Buckets holds a token bucket for each key that was seen lately. Make it with [NewBuckets].
type Buckets[K comparable] struct {
	rate Rate
	most int // buckets

	mu  sync.Mutex
	all map[K]bucket
}

type bucket struct {
	tokens float64 // below 0: that many are reserved
	at     time.Time
}

// NewBuckets makes a table of at most so many buckets, one or more. A key that is not in the table
// has a full bucket. Where the table is full, a new key takes the place of an arbitrary one: the
// limit is then lenient with that one, once.
func NewBuckets[K comparable](r Rate, most int) *Buckets[K] {
	return &Buckets[K]{rate: r, most: most, all: map[K]bucket{}}
}

// Take takes one token of key's bucket and reports whether there was one.
func (b *Buckets[K]) Take(key K, now time.Time) bool {
	_, ok := b.Reserve(key, 0, now)
	return ok
}

// Reserve takes one token of key's bucket: one that is there, or the next that no other has
// reserved, and returns how long it takes to flow in. Where that is longer than maxWait, nothing is
// taken and ok is false.
func (b *Buckets[K]) Reserve(key K, maxWait time.Duration, now time.Time) (wait time.Duration, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	k, known := b.all[key]
	if !known {
		b.makeRoomLocked()
		k = bucket{tokens: b.rate.Burst, at: now}
	}
	k = bucket{b.filled(k, now), now}
	if k.tokens < 1 {
		wait = time.Duration((1 - k.tokens) / b.rate.PerSecond * float64(time.Second))
	}
	ok = k.tokens >= 1 || b.rate.PerSecond > 0 && wait <= maxWait
	if ok {
		k.tokens--
	}
	b.all[key] = k
	return wait, ok
}

// filled returns the tokens of a bucket at a time.
func (b *Buckets[K]) filled(k bucket, now time.Time) float64 {
	return min(b.rate.Burst, k.tokens+max(0, now.Sub(k.at).Seconds())*b.rate.PerSecond)
}

func (b *Buckets[K]) makeRoomLocked() {
	if len(b.all) < b.most {
		return
	}
	for key := range b.all {
		delete(b.all, key)
		return
	}
}

// Sweep forgets the buckets that are full again. The owner of the table calls it from time to time.
func (b *Buckets[K]) Sweep(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for key, k := range b.all {
		if b.filled(k, now) >= b.rate.Burst {
			delete(b.all, key)
		}
	}
}

// Counts counts what keys hold at the moment. The zero value is empty and ready. It keeps nothing
// of a key that holds nothing.
type Counts[K comparable] struct {
	mu  sync.Mutex
	all map[K]int
}

// Acquire adds one for key unless that exceeds most, and reports whether it did. Each success is
// followed by one Release.
func (c *Counts[K]) Acquire(key K, most int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all[key] >= most {
		return false
	}
	if c.all == nil {
		c.all = map[K]int{}
	}
	c.all[key]++
	return true
}

// Release gives one back.
func (c *Counts[K]) Release(key K) {
	c.mu.Lock()
	if c.all[key]--; c.all[key] <= 0 {
		delete(c.all, key)
	}
	c.mu.Unlock()
}

// Count returns how many key holds.
func (c *Counts[K]) Count(key K) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.all[key]
}
