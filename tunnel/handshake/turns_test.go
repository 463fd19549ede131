package handshake

import (
	"testing"
	"testing/synctest"
	"time"
)

// given reports whether a turn that was asked for has come.
func given(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func TestHandshakesOfAFloodTakeTurnsWithThoseOfOthers(t *testing.T) {
	turns := NewSomeTurns[string](1)
	flood, honest := "10.0.0.1", "10.0.0.2"
	if turns.ask(flood) != nil {
		t.Fatal("a free turn was not given")
	}
	var waiting []<-chan struct{}
	for range 100 {
		waiting = append(waiting, turns.ask(flood))
	}
	one := turns.ask(honest)
	for range 2 {
		turns.release()
	}
	if !given(one) {
		t.Error("a source waits behind a hundred handshakes of another")
	}
	n := 0
	for _, c := range waiting {
		if given(c) {
			n++
		}
	}
	if n != 1 || !given(waiting[0]) {
		t.Errorf("%d of the flood had a turn meanwhile, want the oldest alone", n)
	}
	for range 100 {
		turns.release()
	}
	if turns.free != 1 || len(turns.waiting)+len(turns.order) != 0 {
		t.Errorf("at the end %d turns are free, and %d sources wait", turns.free, len(turns.order))
	}
}

// A handshake computes between what it reads: then it has a turn, and while it waits for its peer it
// has none.
func TestAHandshakeThatWaitsForItsPeerHasNoTurn(t *testing.T) {
	turns := NewSomeTurns[string](1)
	m := Meter{Turn: turns.Of("somebody")}
	m.Waits()
	m.Received(1)
	if turns.free != 0 {
		t.Error("a handshake computes without a turn")
	}
	m.Waits()
	if m.Received(0); turns.free != 1 {
		t.Error("a handshake whose peer has gone keeps its turn")
	}
	m.Received(1)
	m.Over()
	m.Over()
	if turns.free != 1 {
		t.Errorf("after the handshake %d turns are free", turns.free)
	}
	if m.Received(1); turns.free != 1 {
		t.Error("what follows a handshake takes a turn")
	}
}

func TestTheWaitForATurnIsNoPartOfTheRoundTrip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := NewSomeTurns[string](1)
		turns.ask("a flood")
		m := Meter{Turn: turns.Of("somebody")}
		m.Sent()
		<-time.After(30 * time.Millisecond)
		go func() {
			<-time.After(time.Minute)
			turns.release()
		}()
		m.Received(1)
		if m.RTT() != 30*time.Millisecond {
			t.Errorf("got %v", m.RTT())
		}
		m.Over()
	})
}
