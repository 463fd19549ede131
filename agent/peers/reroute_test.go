package peers

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ztm/agent/direct"
	"ztm/tunnel"
	"ztm/tunnel/seal"
)

func TestAFlowWhoseMoveHasNoAnswerStaysAndIsNotMovedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		defer func() { <-time.After(time.Minute) }() // connections that are closed wait for their peers
		a, h, end := pairOf(t, &counting{}, "one")
		defer end()
		c := offloadedFlow(t, a, h)
		defer c.Close()
		var asked atomic.Int32
		h.mu.Lock()
		h.other = func(far net.Conn) {
			asked.Add(1)
			accepted, err := seal.Server(h.to.Life, far, h.to.Verifier, h.to.Certificate, h.to.turns.Of("ann"))
			if err != nil || accepted.Dedicated == nil {
				t.Errorf("%v, %v", accepted, err)
				return
			}
			tunnel.ReadHeader(accepted.Dedicated)
			accepted.Dedicated.Reset()
		}
		h.mu.Unlock()
		for _, f := range a.opened() {
			a.goesOver(f, via{along: &outSession{}}, true) // where the mode lets no flow go
		}
		for range 3 {
			a.follow()
			<-time.After(reapEvery)
		}
		if n := asked.Load(); n != 1 {
			t.Errorf("the peer was asked %d times", n)
		}
		if err := echo(c, 1); err != nil {
			t.Errorf("the flow: %v", err)
		}
	})
}

// A connection for a flow costs both devices and a hub several round trips and two handshakes.
func TestNothingIsDialledForAFlowThatIsStillOnItsWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		defer func() { <-time.After(time.Minute) }() // connections that are closed wait for their peers
		a, h, end := pairOf(t, &counting{}, "one")
		defer end()
		c := offloadedFlow(t, a, h)
		defer c.Close()
		before := h.paths()
		for range 3 { // and nobody reads
			for _, f := range a.opened() {
				a.goesOver(f, via{along: &outSession{}}, true) // where the mode lets no flow go
			}
			a.follow()
			<-time.After(reapEvery)
		}
		if n := h.paths() - before; n != 1 {
			t.Errorf("%d connections were dialled for one move", n)
		}
		if err := echo(c, 1); err != nil { // it is through
			t.Fatal(err)
		}
		for _, f := range a.opened() {
			a.goesOver(f, via{along: &outSession{}}, true)
		}
		a.follow()
		<-time.After(reapEvery)
		if n := h.paths() - before; n != 2 {
			t.Errorf("%d connections were dialled for two moves", n)
		}
	})
}

func TestNothingIsDialledForAFlowThatEndedWhileItWaited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		defer func() { <-time.After(time.Minute) }() // connections that are closed wait for their peers
		a, h, end := pairOf(t, &counting{}, "one")
		defer end()
		h.mode = direct.Auto
		c, err := a.Open(t.Context(), Opening{To: h.to.Self, Path: "count/x"})
		if err != nil {
			t.Fatal(err)
		}
		if !a.direct.Begin(h.to.Self) {
			t.Fatal("no round begins")
		}
		before := h.paths()
		if err := echo(c, 2<<20); err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // the flow waits for the round
		c.Close()
		a.direct.End(h.to.Self, "", context.Canceled)
		<-time.After(offloadWait)
		if n := h.paths() - before; n != 0 {
			t.Errorf("%d connections were dialled for a flow that has ended", n)
		}
	})
}

// offloadedFlow opens a flow that has a connection of its own, in both directions.
func offloadedFlow(t *testing.T, a *Peers, h *twoHubs) net.Conn {
	t.Helper()
	c, err := a.Open(t.Context(), Opening{To: h.to.Self, Path: "count/x"})
	if err != nil {
		t.Fatal(err)
	}
	untilOffloaded(t, a, c, h.to.Self)
	if err := echo(c, 1); err != nil {
		t.Fatal(err)
	}
	return c
}
