package handshake

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestAHandshakeMayBeSoLongAndWhatFollowsAnyLength(t *testing.T) {
	var m Meter
	for left := MaxBytes; left > 0; {
		n, err := m.Allow(5000)
		if want := min(5000, left); n != want || err != nil {
			t.Fatalf("with %d bytes left %d are allowed, %v", left, n, err)
		}
		m.Received(n)
		left -= n
	}
	if n, err := m.Allow(1); n != 0 || !errors.Is(err, ErrTooLong) {
		t.Errorf("a byte more: %d, %v", n, err)
	}
	m.Over()
	if n, err := m.Allow(1 << 20); n != 1<<20 || err != nil {
		t.Errorf("after the handshake: %d, %v", n, err)
	}
}

func TestTheRoundTripIsThatOfTheFirstAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m Meter
		m.Received(1) // a server is spoken to before it says anything
		if m.RTT() != 0 {
			t.Errorf("%v before anything was sent", m.RTT())
		}
		m.Sent()
		<-time.After(time.Minute)
		m.Sent() // what was written last is what is answered
		<-time.After(30 * time.Millisecond)
		m.Received(1)
		m.Sent()
		<-time.After(time.Hour)
		m.Received(1)
		if m.RTT() != 30*time.Millisecond {
			t.Errorf("got %v", m.RTT())
		}
	})
}
