package hub

import (
	"bytes"
	"runtime"
	"testing"

	"ztm/hub/limits"
	"ztm/tunnel"
)

func TestEventsBeginWithReadyAndTheVersionOfTheTrustList(t *testing.T) {
	h := start(t)
	bob := h.device("bob")
	s := bob.session()
	wantRefusal(t, s.Events(t.Context(), func(tunnel.Event) {}), 409, "no record")
	if err := bob.put(s, bob.record("b")); err != nil {
		t.Fatal(err)
	}
	o := bob.listen(s)
	if e := <-o.events; e.Type != tunnel.EventReady {
		t.Errorf("the first event is %q", e.Type)
	}
	if e := <-o.events; e.Type != tunnel.EventTrust || e.Version != 0 {
		t.Errorf("the second event is %+v", e)
	}
}

func TestADeviceThatComesBackTakesItsStreamOver(t *testing.T) {
	h := start(t)
	bob := h.device("bob")
	old := bob.online("b")
	again := bob.online("b")
	wait(t, "the old stream ends", old.ended)
	a := h.device("alice").online("a")
	near, far := pair(t, a, again, openers["connection"], openers["connection"])
	near.Close()
	far.Close()
	var s tunnel.HubStatus
	if err := a.Call(t.Context(), "GET", tunnel.PathHub, nil, nil, &s); err != nil || s.Agents != 2 {
		t.Errorf("%d agents, %v", s.Agents, err)
	}
}

func TestOldControlSessionsGiveWay(t *testing.T) {
	h := start(t, func(c *Config) { c.Limits.Control = 2 })
	bob := h.device("bob")
	var sessions []*tunnel.Session
	for range 3 { // one after the other: a client is done with its handshake before the hub is
		s := bob.session()
		if err := s.Call(t.Context(), "GET", tunnel.PathHub, nil, nil, nil); err != nil {
			t.Fatal(err)
		}
		sessions = append(sessions, s)
	}
	first, second, third := sessions[0], sessions[1], sessions[2]
	wait(t, "the oldest session is cut", first.Done())
	for _, s := range []*tunnel.Session{second, third} {
		if err := s.Call(t.Context(), "GET", tunnel.PathHub, nil, nil, nil); err != nil {
			t.Error(err)
		}
	}
}

// An agent that does not read holds up nobody, and is cut off when it would miss what it must not.
func TestAnAgentThatDoesNotReadHoldsUpNobody(t *testing.T) {
	h := start(t)
	a := h.device("alice").online("a")
	stuck := h.device("bob")
	if err := stuck.put(stuck.session(), stuck.record("stuck")); err != nil {
		t.Fatal(err)
	}
	f := newRawClient(t, stuck, noWindow)
	f.get(1, tunnel.PathEvents)
	eventually(t, "the agent is online", func() bool {
		var e tunnel.Entry
		return a.Call(t.Context(), "GET", tunnel.PathEndpoints+"/"+string(stuck.id), nil, nil, &e) == nil && e.Online
	})
	refused := make(chan error)
	waiting := limits.DialBackQueue + 10
	for range waiting {
		go func() {
			_, err := a.carry(stuck.id, "")
			refused <- err
		}()
	}
	for range waiting - limits.DialBackQueue - 1 { // one event is being written, and the queue is full
		wantRefusal(t, <-refused, 503, "endpoint stuck is busy")
	}
	for range limits.EventQueue - limits.DialBackQueue + 1 {
		h.evict(a, "nobody")
	}
	f.wantEnd()
	if e := a.next(tunnel.EventTrust); e.Version != 1 {
		for e = a.next(tunnel.EventTrust); e.Version != 1; e = a.next(tunnel.EventTrust) {
			if e.Type == "" {
				t.Fatal("no trust event")
			}
		}
	}
	for range limits.DialBackQueue + 1 {
		wantRefusal(t, <-refused, 503, "")
	}
}

func TestDialBacksLeaveRoomInTheQueueOfEvents(t *testing.T) {
	s := newSession(nil, nil)
	fill := func(most int) (n int) {
		for s.Offer(most, &tunnel.Event{}) {
			n++
		}
		return n
	}
	for _, tt := range []struct {
		of   string
		most int
		want int
	}{{"dial-backs", limits.DialBackQueue, 48}, {"requests to sign", limits.SignQueue, 8}, {"what must not be missed", limits.EventQueue, 8}} {
		if got := fill(tt.most); got != tt.want {
			t.Errorf("room for %d %s, want %d", got, tt.of, tt.want)
		}
	}
}

func TestAnAgentAtRestHasOneGoroutineAtTheHub(t *testing.T) {
	h := start(t)
	bob := h.device("bob").online("b")
	bob.next(tunnel.EventHubs)
	at := func(function string) bool {
		all := make([]byte, 4<<20)
		return bytes.Contains(all[:runtime.Stack(all, true)], []byte(function))
	}
	const serves, tells = "h2.(*Conn).serve(", "hub.(*session).tell("
	stuck := h.device("carol")
	if err := stuck.put(stuck.session(), stuck.record("c")); err != nil {
		t.Fatal(err)
	}
	f := newRawClient(t, stuck, noWindow)
	f.get(1, tunnel.PathEvents)
	f.get(3, tunnel.PathHub)
	eventually(t, "an agent that takes no answer is served, and told of events", func() bool { return at(serves) && at(tells) })
	f.c.NetConn().Close()
	eventually(t, "nothing of the hub waits but what reads", func() bool { return !at(serves) && !at(tells) })
	h.evict(h.device("alice").online("a"), "nobody")
	if e := bob.next(tunnel.EventTrust); e.Version != 1 {
		t.Errorf("then it is told %+v", e)
	}
}
