package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"ztm/tunnel/identity"
)

// planned is a Control whose attempts a test lets succeed or fail. Its hubs are at addresses.
type planned struct {
	*Control
	t       *testing.T
	now     time.Time
	begun   []*link
	floor   []string
	ordered []string // the floor, as this endpoint wants it
}

func newPlanned(t *testing.T, slots, hubs int) *planned {
	t.Helper()
	p := &planned{t: t, now: time.Now()}
	for i := range hubs {
		p.floor = append(p.floor, fmt.Sprintf("hub-%d:1", i))
	}
	p.Control = New(Config{Self: "me", Slots: slots, Hubs: func() []string { return p.floor }, Log: slog.New(slog.DiscardHandler), Life: t.Context()})
	p.begin = func(l *link) { p.begun = append(p.begun, l) }
	for _, one := range p.rankedLocked(false) {
		p.ordered = append(p.ordered, one.key)
	}
	return p
}

// after lets time pass, plans, and returns where attempts began.
func (p *planned) after(d time.Duration) (begun []string) {
	p.now = p.now.Add(d)
	p.begun = nil
	p.plan(p.now)
	for _, l := range p.begun {
		begun = append(begun, l.place.key)
	}
	return begun
}

// succeed has the attempts at some places be sessions.
func (p *planned) succeed(places ...string) {
	for _, l := range p.links {
		if slices.Contains(places, l.place.key) {
			l.ready, l.place.failed = true, false
		}
	}
}

// lose ends the session or the attempt at a place.
func (p *planned) lose(place string, err error) {
	for _, l := range slices.Clone(p.links) {
		if l.place.key == place {
			l.ready = false // leadLocked wants a real session of those that are left
			p.links = slices.DeleteFunc(p.links, func(other *link) bool { return other == l })
			p.failedLocked(l, err, p.now)
		}
	}
}

// over are the places whose sessions are to end.
func (p *planned) over() (out []string) {
	for _, l := range p.links {
		if errors.Is(context.Cause(l.life), errNotNeeded) {
			out = append(out, l.place.key)
		}
	}
	return out
}

func (p *planned) want(what string, got []string, want ...string) {
	p.t.Helper()
	if !slices.Equal(got, want) {
		p.t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func TestTheHubsThatAreWantedMostAreTriedFirstAndSilenceIsNotWaitedFor(t *testing.T) {
	p := newPlanned(t, 2, 4)
	o := p.ordered
	p.want("at first", p.after(0), o[0], o[1])
	p.want("a moment later", p.after(RaceDelay/2))
	p.succeed(o[0])
	p.want("when one of them is silent", p.after(RaceDelay), o[2])
	p.succeed(o[2])
	p.want("when there are two", p.after(RaceDelay))
	p.succeed(o[1])
	p.want("when there are three", p.after(0))
	p.want("what is not needed", p.over(), o[2])
}

func TestOneSessionIsEnoughWhereOneIsWantedOrThereIsOneHub(t *testing.T) {
	for what, p := range map[string]*planned{"one is wanted": newPlanned(t, 1, 3), "one hub": newPlanned(t, 2, 1)} {
		p.want(what, p.after(0), p.ordered[0])
		p.succeed(p.ordered[0])
		for range 100 {
			p.want(what, p.after(time.Minute))
		}
	}
}

func TestAHubThatFailedIsTriedLastAndAfterAWait(t *testing.T) {
	p := newPlanned(t, 1, 2)
	o := p.ordered
	p.want("at first", p.after(0), o[0])
	p.lose(o[0], errors.New("silent"))
	p.want("after it failed", p.after(0), o[1])
	p.lose(o[1], errors.New("silent"))
	p.want("when both wait", p.after(0))
	p.want("later", p.after(firstDelay+2*time.Millisecond), o[0])
}

func TestABetterHubIsTriedWithinMinutesAndTheOtherLeftWhenItStands(t *testing.T) {
	p := newPlanned(t, 2, 3)
	o := p.ordered
	p.after(0)
	p.succeed(o[1])
	p.lose(o[0], errors.New("gone"))
	p.after(firstDelay + 2*time.Millisecond)
	p.succeed(o[2])
	tried := time.Duration(0)
	for ; tried <= homeWithin; tried += time.Second {
		if begun := p.after(time.Second); len(begun) > 0 {
			p.want("home", begun, o[0])
			break
		}
	}
	if tried > homeWithin {
		t.Fatal("the better hub is not tried")
	}
	p.want("while it is tried", p.over())
	p.succeed(o[0])
	p.after(0)
	p.want("when it stands", p.over(), o[2])
}

func TestEndpointsGoHomeAtDifferentTimes(t *testing.T) {
	early, late := 0, 0
	for range 40 {
		p := newPlanned(t, 1, 2)
		p.after(0)
		p.lose(p.ordered[0], errors.New("gone"))
		p.after(firstDelay + 2*time.Millisecond)
		p.succeed(p.ordered[1])
		p.after(0)
		if p.homeAt.Sub(p.now) < homeWithin/2 {
			early++
		} else {
			late++
		}
	}
	if early == 0 || late == 0 {
		t.Errorf("%d in the first half, %d in the second", early, late)
	}
}

func TestAHubThatDrainsIsLeftWhenThereIsAnother(t *testing.T) {
	p := newPlanned(t, 1, 2)
	o := p.ordered
	p.after(0)
	p.succeed(o[0])
	l := p.links[0]
	p.move(l, 20*time.Second)
	if wait := time.Until(l.leave); wait > 10*time.Second {
		t.Errorf("it is left in %v", wait)
	}
	p.want("before the time", p.after(0))
	p.want("at the time", p.after(11*time.Second), o[1])
	p.want("while the other one does not stand", p.over())
	p.succeed(o[1])
	p.after(0)
	p.want("when it stands", p.over(), o[0])
}

func TestAHubThatDrainsIsKeptWhereThereIsNoOther(t *testing.T) {
	p := newPlanned(t, 2, 1)
	p.after(0)
	p.succeed(p.ordered[0])
	p.move(p.links[0], time.Second)
	for range 10 {
		p.want("no other hub", p.after(time.Minute))
		p.want("it is left", p.over())
	}
}

func TestARoundTripThatIsOtherForLongMovesAnEndpoint(t *testing.T) {
	const ms = time.Millisecond
	now := time.Now()
	p := &place{}
	for _, step := range []struct {
		after, rtt, want time.Duration
	}{
		{0, 100 * ms, 100 * ms},
		{time.Hour, 75 * ms, 100 * ms},       // less than 30 percent
		{time.Hour, 20 * ms, 100 * ms},       // not for long
		{9 * time.Minute, 20 * ms, 100 * ms}, // nor now
		{time.Minute, 100 * ms, 100 * ms},    // it was a blip
		{time.Minute, 20 * ms, 100 * ms},     // again
		{11 * time.Minute, 20 * ms, 20 * ms}, // it is so
		{time.Hour, 29 * ms, 20 * ms},        // less than 10 ms
		{11 * time.Minute, 29 * ms, 20 * ms}, // for ever
		{11 * time.Minute, 0, 20 * ms},       // not measured
	} {
		now = now.Add(step.after)
		if p.measured(step.rtt, now); p.judged != step.want {
			t.Errorf("%v after %v: judged by %v, want %v", step.rtt, step.after, p.judged, step.want)
		}
	}
}

// known has hubs be at the places, and measured returns how often one was tried that took so long to
// answer, in so many hours.
func (p *planned) known() {
	for key, place := range p.places {
		place.record = identity.HubRecord{ID: identity.ID(key), Names: []string{key}}
	}
}

func (p *planned) measured(place string, rtt time.Duration, hours int) (tries int) {
	for range hours * 60 {
		if !slices.Contains(p.after(time.Minute), place) {
			continue
		}
		tries++
		p.places[place].measured(rtt, p.now)
		if !slices.Contains(keysOf(p.rankedLocked(false)[:1]), place) {
			p.links = slices.DeleteFunc(p.links, func(l *link) bool { return l.place.key == place }) // as claim does
		}
	}
	return tries
}

func TestAHubThatBecameNearerIsFoundThoughThereIsNoSessionWithIt(t *testing.T) {
	const ms = time.Millisecond
	p := newPlanned(t, 1, 2)
	here, there := p.ordered[0], p.ordered[1]
	p.after(0)
	p.known()
	p.succeed(here)
	p.places[here].measured(50*ms, p.now)
	p.places[there].measured(200*ms, p.now)
	if tries := p.measured(there, 200*ms, 24); tries < 16 || tries > 48 {
		t.Errorf("a hub that is far away is measured %d times a day", tries)
	}
	p.want("while it is", keysOf(p.rankedLocked(false)), here, there)
	p.measured(there, 5*ms, 4)
	p.want("when it is near", keysOf(p.rankedLocked(false)), there, here)
	if p.links[len(p.links)-1].place.key != there {
		t.Error("it is not moved to")
	}
}

// A hub that was built anew has another key at the same address.
func TestAnotherHubAtAKnownAddressIsMet(t *testing.T) {
	p := newPlanned(t, 2, 1)
	p.after(0)
	old := p.hubLocked("old-hub", p.floor[0])
	old.record = identity.HubRecord{ID: "old-hub", Names: []string{p.floor[0]}}
	p.links[0].place = old
	p.want("the hub", keysOf(p.rankedLocked(false)), "old-hub")
	p.lose("old-hub", fmt.Errorf("handshake: %w", identity.ErrWrongID))
	p.want("the hub and its address", keysOf(p.rankedLocked(false)), p.floor[0], "old-hub")
}

func keysOf(places []*place) (out []string) {
	for _, p := range places {
		out = append(out, p.key)
	}
	return out
}
