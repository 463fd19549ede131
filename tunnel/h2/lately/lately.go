// Package lately keeps how far away a peer has been in the last minutes.
//
// A round trip of a moment in which the path was full is not how far away the peer is, and one of
// yesterday is not how far away it is now.
package lately

import "time"

// long is how long a round trip counts, and twice as long at most.
const long = 5 * time.Minute

// Trip is the least round trip of the last minutes in which any was measured. The zero value is one
// of which nothing is known. It is not safe for concurrent use.
type Trip struct {
	begun     time.Time
	now, last time.Duration // the least since begun, and of the time before; 0: none
}

// Add notes a round trip, which took some time.
func (t *Trip) Add(took time.Duration) {
	if time.Since(t.begun) > long {
		t.begun, t.now, t.last = time.Now(), took, t.now
	}
	t.now = min(t.now, took)
}

// Least returns it; 0 if none was measured.
func (t *Trip) Least() time.Duration {
	if t.last == 0 {
		return t.now
	}
	return min(t.now, t.last)
}
