package direct

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"ztm/apps/appstest"
	"ztm/tunnel/direct"
	"ztm/tunnel/identity"
	"ztm/tunnel/identity/identitytest"
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

// A device with 64 MB takes part in as many rounds as there may be, of all sorts, while all that its peers
// name connects, knows the round, and begins a handshake that is as long as one may be and does not end.
func TestAsManyRoundsAsThereMayBeTakeLittleMemory(t *testing.T) {
	const most = 8 << 20 // bytes
	m := identitytest.New(t, time.Now())
	f := newFixture(t)
	f.connect(t, "203.0.113.1:40000")
	f.Verifier, f.Certificate = m.Verifier(), func() tls.Certificate { return m.Member("alice").Cert }
	withAir(f)
	var handshakes atomic.Int32
	f.Network.Dial = func(_ context.Context, _ uint16, to netip.AddrPort) (net.Conn, error) {
		near, far := pipes(t)
		go func() { // ends with far
			far.Write(bytes.Repeat([]byte{byte(to.Port())}, roundLength))
			far.Write(endless)
			handshakes.Add(1)
		}()
		return near, nil
	}
	before := inUse()
	places := direct.Places{}
	for a := netip.MustParseAddr("10.0.0.2"); len(places.Local) < direct.MaxPlaces; a = a.Next() {
		places.Local = append(places.Local, a)
	}
	other := direct.Candidate{Kind: direct.LAN, To: netip.MustParseAddrPort("10.0.0.2:5000")}
	begin := func(i byte, s Session, first, second string, o offer) {
		t.Helper()
		s.Leg, s.Peer = f.leg, identity.Subject{ID: identity.ID(fmt.Sprint(first, i)), User: "alice"}
		o.Round = wordOf(200 + i)
		if w := f.askOn(s, first, o); w.Code != http.StatusOK {
			t.Fatalf("%s %d: %v", first, i, w)
		}
		if w := f.askOn(s, second, o); w.Code != http.StatusNoContent {
			t.Fatalf("%s %d: %v", second, i, w)
		}
	}
	for i := range byte(pathsAtOnce) {
		begin(i, Session{End: End{Path: other}, Export: exportZeros, Beside: func(Path) {}}, seal.PathDatagrams, seal.PathDatagramsGo, offer{})
	}
	for i := range byte(offloadsAtOnce) {
		places.Port = 5000/256*256 + 200 + uint16(i)
		begin(i, Session{At: other.To.Addr()}, seal.PathDirect, seal.PathDirectGo, offer{Offload: true, Places: places})
	}
	for i := range byte(answersAtOnce) {
		places.Port = 5000/256*256 + 200 + uint16(i)
		begin(i, Session{}, seal.PathDirect, seal.PathDirectGo, offer{Places: places})
	}
	appstest.Eventually(t, "all handshakes have begun", func() bool { return handshakes.Load() == answersAtOnce*direct.MaxPlaces+offloadsAtOnce })
	n := inUse() - before
	if n > most {
		t.Errorf("%d KB, want at most %d", n>>10, most>>10)
	}
}

// endless is the beginning of a handshake: a message of 64 KiB, as much of it as there may be without
// that the handshake is given up.
var endless = append([]byte{0x16, 3, 1, 0x3f, 0, 1, 0, 0xff, 0xfc}, make([]byte, 0x3f00-4)...)

// inUse is what this program takes, in bytes.
func inUse() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// The wall clock may be set while a round runs. Times of which Go keeps the monotonic reading do not
// heed that; what drops it, such as Round or UTC, would show here.
func TestTheTimesOfRoundsAreNotThoseOfTheWallClock(t *testing.T) {
	f := newFixture(t)
	f.connect(t, "203.0.113.1:40000")
	f.ask(seal.PathDirect, "alice", "own", offer{Round: wordOf(0)})
	f.Begin("failed")
	f.End("failed", "", NoWay)
	f.Begin("met")
	f.End("met", direct.LAN, nil)
	for what, when := range map[string]time.Time{
		"a round is kept until": f.waiting[string(wordOf(0))].expires, "the next one begins": f.states["failed"].later,
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
	now, a := time.Now(), newAttempts(nil, "", "")
	inSecond := map[int]int{}
	for range devices {
		s := &state{}
		a.failedLocked(s, NoWay)
		inSecond[int(s.later.Sub(now).Seconds())]++
	}
	for second, n := range inSecond {
		if n > devices/5 {
			t.Errorf("after %d s %d of %d begin", second, n, devices)
		}
	}
}
