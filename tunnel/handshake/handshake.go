// Package handshake is what both ends keep of a TLS handshake while it runs: how far away the peer
// is, how much the peer has sent, and whether the handshake may compute now.
//
//	Meter.Waits -> read -> Meter.Allow, Received: counted, timed -> Turn: TLS computes -> Waits
package handshake

import (
	"errors"
	"time"
)

// MaxBytes is what a peer may send before the handshake is over. Ours sends less than 4 KiB.
// crypto/tls alone takes certificate messages of 256 KiB from anybody, and holds each of them for
// as long as the handshake lasts.
const MaxBytes = 16 << 10

// ErrTooLong ends a handshake in which the peer sends more than [MaxBytes].
var ErrTooLong = errors.New("the peer sends more than a handshake takes")

// Meter watches one handshake from below TLS. The zero value is ready. One goroutine at a time may
// use it; once the handshake is over, any may ask for the RTT.
type Meter struct {
	// Turn is taken when something came, and given back before the next is waited for. nil: the
	// handshake computes when it wants.
	Turn *Turn

	sent time.Time
	rtt  time.Duration
	got  int // bytes
	over bool
}

// Sent is called when something is written.
func (m *Meter) Sent() {
	if m.rtt == 0 {
		m.sent = time.Now()
	}
}

// Allow returns how many of n bytes may be read now: all, or during the handshake as many as are
// left of [MaxBytes]. The error is [ErrTooLong].
func (m *Meter) Allow(n int) (int, error) {
	if m.over {
		return n, nil
	}
	if m.got >= MaxBytes {
		return 0, ErrTooLong
	}
	return min(n, MaxBytes-m.got), nil
}

// Waits is called before something is read, which may take long.
func (m *Meter) Waits() { m.Turn.Release() }

// Received is called when n bytes were read. It waits for the turn of the handshake, which is no
// part of the round trip.
func (m *Meter) Received(n int) {
	if m.over || n == 0 {
		return
	}
	m.got += n
	if m.rtt == 0 && !m.sent.IsZero() {
		m.rtt = max(time.Since(m.sent), 1)
	}
	m.Turn.Acquire()
}

// Over ends the watch: the peer has shown who it is, or that it is nobody.
func (m *Meter) Over() {
	m.over = true
	m.Turn.Release()
	m.Turn = nil
}

// RTT returns the round trip to the peer, from what was written last until something came back; 0
// before that. The time that the peer thinks is part of it, so it is rather too long than too
// short.
func (m *Meter) RTT() time.Duration { return m.rtt }
