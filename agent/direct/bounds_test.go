package direct

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"ztm/apps/appstest"
	"ztm/tunnel/direct"
	"ztm/tunnel/identity"
	"ztm/tunnel/seal"
)

// A small device has 256 descriptors: all that peers and its own flows may cause at once leaves some.
func TestAsManyRoundsAsThereMayBeLeaveDescriptors(t *testing.T) {
	f := newFixture(t)
	f.connect(t, "203.0.113.1:40000")
	var places []netip.Addr
	for a := netip.MustParseAddr("10.0.0.2"); len(places) < direct.MaxPlaces; a = a.Next() {
		places = append(places, a)
	}
	begun := 0
	for i := range byte(2 * answersAtOnce) {
		peer := identity.ID(rune('a' + i))
		o := offer{Round: wordOf(i)}
		if w := f.ask(seal.PathDirect, "alice", peer, o); w.Code != http.StatusOK {
			t.Fatal(w)
		}
		o.Places = direct.Places{Port: 5000, Local: places}
		if w := f.ask(seal.PathDirectGo, "alice", peer, o); w.Code == http.StatusNoContent {
			begun++
		}
	}
	if begun != answersAtOnce {
		t.Errorf("%d rounds run at once, want %d", begun, answersAtOnce)
	}
	dials := func() int {
		f.mu.Lock()
		defer f.mu.Unlock()
		return len(f.dials) // none of them ends
	}
	appstest.Eventually(t, "all rounds dial", func() bool { return dials() >= begun*direct.MaxPlaces })
	if n := dials(); n != begun*direct.MaxPlaces {
		t.Errorf("%d rounds have %d sockets", begun, n)
	}
	if all := (answersAtOnce+roundsAtOnce)*direct.MaxPlaces + offloadsAtOnce + pathsAtOnce + roundsAtOnce; all > 200 {
		t.Errorf("all of it may take %d descriptors", all)
	}
}

// The wall clock may be set while a round runs. Times of which Go keeps the monotonic reading do not
// heed that; what drops it, such as Round or UTC, would show here.
func TestTheTimesOfRoundsAreNotThoseOfTheWallClock(t *testing.T) {
	f := newFixture(t)
	f.connect(t, "203.0.113.1:40000")
	f.ask(seal.PathDirect, "alice", "own", offer{Round: wordOf(0)})
	f.Begin("failed")
	f.End("failed", "", &failure{cause: NoWay})
	f.Begin("met")
	f.End("met", direct.LAN, nil)
	for what, when := range map[string]time.Time{
		"a round is kept until": f.waiting[wordOf(0)].expires, "the next one begins": f.states["failed"].later,
		"a path was made": f.states["met"].up, "the network was looked at": f.located,
	} {
		if !strings.Contains(when.String(), " m=") {
			t.Errorf("%s %v", what, when)
		}
	}
}

// Where a hub comes back that many devices wait for, their rounds fail together, and do not begin
// together again.
func TestRoundsThatFailedTogetherDoNotBeginTogetherAgain(t *testing.T) {
	const devices = 5000
	now := time.Now()
	inSecond := map[int]int{}
	for range devices {
		s := &state{}
		s.failedLocked(NoWay)
		inSecond[int(s.later.Sub(now).Seconds())]++
	}
	for second, n := range inSecond {
		if n > devices/5 {
			t.Errorf("after %d s %d of %d begin", second, n, devices)
		}
	}
}
