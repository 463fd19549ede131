package admission

import (
	"net"
	"net/netip"
	"testing"
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
	turns := newTurns(1)
	flood, honest := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	if turns.ask(flood) != nil {
		t.Fatal("a free turn was not given")
	}
	var waiting []<-chan struct{}
	for range 100 {
		waiting = append(waiting, turns.ask(flood))
	}
	one := turns.ask(honest)
	for range 2 {
		turns.give()
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
		turns.give()
	}
	if turns.free != 1 || len(turns.waiting)+len(turns.order) != 0 {
		t.Errorf("at the end %d turns are free, and %d sources wait", turns.free, len(turns.order))
	}
}

// A handshake computes between what it reads: then it has a turn, and while it waits for its peer it
// has none.
func TestAHandshakeThatWaitsForItsPeerHasNoTurn(t *testing.T) {
	ln, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	far, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	near, err := ln.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	turns := newTurns(1)
	s := NewSocket(near, netip.MustParseAddr("127.0.0.1"), turns)
	far.Write([]byte("hello"))
	if n, err := s.Read(make([]byte, 10)); n != 5 || err != nil {
		t.Fatal(n, err)
	}
	if turns.free != 0 {
		t.Error("a handshake computes without a turn")
	}
	far.Close()
	if _, err := s.Read(make([]byte, 10)); err == nil {
		t.Fatal("no end")
	}
	if turns.free != 1 {
		t.Error("a handshake whose peer has gone keeps its turn")
	}
	s.turn, turns.free = true, 0
	s.Rest()
	s.Rest()
	if turns.free != 1 {
		t.Errorf("after the handshake %d turns are free", turns.free)
	}
}
