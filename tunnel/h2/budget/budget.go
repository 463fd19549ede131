// Package budget bounds what all HTTP/2 connections of a process hold for readers that have not
// come yet.
package budget

import "sync/atomic"

// Budget bounds what all connections of a process hold for readers that have not come yet. What
// they hold of it together:
//
//	below a quarter  windows are as large as the path wants
//	above            the windows of all streams become small, by the number of streams: what a reader that has stopped has not got yet, it does not get
//	three quarters   a connection that holds more than its share gives its own window back when bytes are taken, not when they come
//	the last         is for shares: a quarter of the limit, divided by the number of connections
//	half             is what windows of connections may grow by: each leaves as much to others as it has, and gives back what it has beyond that
//
// So hundreds of readers may stop, and who reads goes on, in the same connection and in others.
// Below an eighth all windows are again what they were. The zero value has no limit. It is safe for
// concurrent use.
type Budget struct {
	Limit   int64 // bytes; set before the first use
	held    atomic.Int64
	conns   atomic.Int64 // that there are
	streams atomic.Int64 // that are open
	grown   atomic.Int64 // what connections may be sent at once beyond what they began with
}

// The windows of streams while the budget is short, in bytes.
const (
	MostPressed  = 64 << 10
	leastPressed = 4 << 10
)

func (b *Budget) limited() bool { return b != nil && b.Limit > 0 }

// Held returns how many bytes are held.
func (b *Budget) Held() int64 {
	if b == nil {
		return 0
	}
	return b.held.Load()
}

// Hold counts bytes that are held, Connected connections, and Opened streams that are open: n may
// be negative.
func (b *Budget) Hold(n int) {
	if b != nil {
		b.held.Add(int64(n))
	}
}

// Connected: see Hold.
func (b *Budget) Connected(n int) {
	if b != nil {
		b.conns.Add(int64(n))
	}
}

// Opened: see Hold.
func (b *Budget) Opened(n int) {
	if b != nil {
		b.streams.Add(int64(n))
	}
}

// left returns how much may be held before connections are held to their shares.
func (b *Budget) left() int64 { return b.Limit/4*3 - b.held.Load() }

// Spent reports whether a connection that holds so much may hold no more.
func (b *Budget) Spent(held int) bool {
	return b.limited() && b.left() <= 0 && int64(held) >= b.Limit/4/max(b.conns.Load(), 1)
}

// Press returns how small the windows of streams have to be; 0 if there is enough. If every stream
// used such a window, half of what is left would be left.
func (b *Budget) Press() int {
	if !b.limited() || b.left() > b.Limit/2 {
		return 0
	}
	each := b.left() / max(b.streams.Load(), 1) / 2
	return int(min(max(each, leastPressed), MostPressed))
}

// Enough reports whether windows may be large again.
func (b *Budget) Enough() bool { return !b.limited() || b.left() > b.Limit/8*5 }

// Grow reserves up to n bytes for the window of a connection that has reserved so many before, and
// returns how many. Half of the limit can be reserved, and a connection leaves as much of that to
// others as it has itself: or the first on a long way would take all for as long as it lives.
func (b *Budget) Grow(have, n int) int {
	if !b.limited() {
		return n
	}
	for {
		grown := b.grown.Load()
		n = int(min(int64(n), (b.Limit/2-grown-int64(have))/2))
		if n <= 0 {
			return 0
		}
		if b.grown.CompareAndSwap(grown, grown+int64(n)) {
			return n
		}
	}
}

// Shrink gives back what Grow has reserved.
func (b *Budget) Shrink(n int) {
	if b != nil {
		b.grown.Add(int64(-n))
	}
}

// Yield gives back what a connection has reserved beyond what is left to others, n bytes at the
// most, and returns how many.
func (b *Budget) Yield(have, n int) int {
	if !b.limited() {
		return 0
	}
	left := b.Limit/2 - b.grown.Load()
	n = int(min(int64(n), int64(have), (int64(have)-left)/2))
	if n <= 0 {
		return 0
	}
	b.Shrink(n)
	return n
}
