package h2

import "time"

// RoundTrip measures how far away a peer is, once, in a handshake: from what was written last until something comes back. The time that the
// peer thinks is part of it, so it is rather too much than too little. The zero value is ready.
//
// Until it has measured one goroutine uses it; from then on any may.
type RoundTrip struct {
	sent time.Time
	took time.Duration
}

// Sent is called when something is written.
func (r *RoundTrip) Sent() {
	if r.took == 0 {
		r.sent = time.Now()
	}
}

// Received is called when something was read.
func (r *RoundTrip) Received() {
	if r.took == 0 && !r.sent.IsZero() {
		r.took = max(time.Since(r.sent), 1)
	}
}

// Took returns the round trip, 0 before there was one.
func (r *RoundTrip) Took() time.Duration { return r.took }
