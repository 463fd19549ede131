package direct

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ztm/tunnel/datagram"
	"ztm/tunnel/direct"
	"ztm/tunnel/direct/directtest"
	"ztm/tunnel/identity"
	"ztm/tunnel/seal"
)

// withAir gives the fixture a network for datagrams.
func withAir(f *fixture) *directtest.Air {
	air := directtest.NewAir()
	f.Network.Socket = func() (direct.Socket, error) { return air.Socket(netip.MustParseAddr("10.0.0.1")), nil }
	return air
}

// askBeside is ask of an endpoint of alice for a round for datagrams, on a session with a path of its own.
func (f *fixture) askBeside(t *testing.T, path string, id identity.ID, o offer) *httptest.ResponseRecorder {
	t.Helper()
	met := direct.Candidate{Kind: direct.LAN, To: netip.MustParseAddrPort("10.0.0.2:5000")}
	return f.askOn(Session{End: End{Leg: f.leg, Path: met}, Peer: identity.Subject{ID: id, User: "alice"}, Beside: func(Path) {}, Export: exportZeros}, path, o)
}

func exportZeros(_ []byte, n int) ([]byte, error) { return make([]byte, n), nil }

// A peer may have few sockets opened here, and none for long where it does not go on.
func TestRoundsForDatagramsOpenFewSocketsAndNoneForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		air := withAir(f)
		codes := map[int]int{}
		for i := range byte(10) {
			codes[f.askBeside(t, seal.PathDatagrams, "own", offer{Round: wordOf(i)}).Code]++
		}
		if codes[http.StatusOK] != pathsPeer || codes[http.StatusTooManyRequests] != 10-pathsPeer || air.Open() != pathsPeer {
			t.Errorf("%v, %d sockets", codes, air.Open())
		}
		<-time.After(roundLife + time.Second)
		if air.Open() != 0 {
			t.Errorf("%d sockets are open", air.Open())
		}
		if w := f.askBeside(t, seal.PathDatagramsGo, "own", offer{Round: wordOf(0)}); w.Code != http.StatusNotFound {
			t.Errorf("a round that is over: %d", w.Code)
		}
		f.end()
		<-f.Work.Close()
	})
}

// A peer begins a round again under a name that was claimed: its timers are two.
func TestARoundOfANameThatWasUsedHoldsNothingForLongEither(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		air := withAir(f)
		for _, path := range []string{seal.PathDatagrams, seal.PathDatagramsGo, seal.PathDatagrams} {
			if w := f.askBeside(t, path, "own", offer{Round: wordOf(0)}); w.Code >= http.StatusBadRequest {
				t.Fatalf("%s: %d", path, w.Code)
			}
			<-time.After(datagram.RoundTime)
		}
		<-time.After(roundLife - 10*time.Second) // the time of the first is over, that of the second is not
		if air.Open() != 1 {
			t.Errorf("%d sockets are open, want that of the second round", air.Open())
		}
		<-time.After(roundLife)
		if n := f.paths.Count("own"); air.Open() != 0 || n != 0 {
			t.Errorf("%d sockets are open, %d places are taken", air.Open(), n)
		}
		f.end()
		<-f.Work.Close()
	})
}

func TestARoundForDatagramsIsNoneForConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		air := withAir(f)
		f.askBeside(t, seal.PathDatagrams, "own", offer{Round: wordOf(0)})
		for path, id := range map[string]identity.ID{seal.PathDirectGo: "own", seal.PathDatagramsGo: "other"} {
			if w := f.askBeside(t, path, id, offer{Round: wordOf(0)}); w.Code != http.StatusNotFound {
				t.Errorf("%s of %s: %d", path, id, w.Code)
			}
		}
		if w := f.askBeside(t, seal.PathDatagramsGo, "own", offer{Round: wordOf(0)}); w.Code != http.StatusNoContent {
			t.Errorf("the peer's own: %d", w.Code)
		}
		<-time.After(2 * datagram.RoundTime) // nobody is there
		if air.Open() != 0 || len(f.dials) > 0 {
			t.Errorf("%d sockets, dialled %v", air.Open(), f.dials)
		}
	})
}

// What a peer is told and where it is looked for is as for connections: nothing beyond the mode, no
// service, no private address of another network.
func TestPacketsGoNowhereThatIsNotDialledEither(t *testing.T) {
	theirs := direct.Places{Seen: netip.MustParseAddrPort("198.51.100.1:5000"), Port: 5000, Local: []netip.Addr{
		netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("192.168.7.7"), netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("169.254.169.254"),
		netip.MustParseAddr("224.0.0.1"), netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("0.0.0.0"),
	}}
	low := theirs
	low.Port, low.Seen = 53, netip.MustParseAddrPort("198.51.100.1:53")
	for name, tt := range map[string]struct {
		mode   Mode
		theirs direct.Places
		want   string
	}{
		"all":               {Auto, theirs, "[10.0.0.2:5000 198.51.100.1:5000]"},
		"the local network": {LAN, theirs, "[10.0.0.2:5000]"},
		"services":          {Auto, low, "[]"},
	} {
		f := newFixture(t)
		f.connect(t, "203.0.113.1:40000")
		f.mode = tt.mode
		got := f.probed(End{Leg: f.leg}, at("10.0.0.1/24"), tt.theirs)
		all := []netip.AddrPort{}
		for _, c := range got {
			all = append(all, c.To)
		}
		if s := strings.TrimSpace(fmt.Sprint(all)); s != tt.want {
			t.Errorf("%s: %s, want %s", name, s, tt.want)
		}
	}
}

// On a session that is direct the address is known, and a peer names a port alone.
func TestOfADirectSessionOneAddressIsTried(t *testing.T) {
	f := newFixture(t)
	met := direct.Candidate{Kind: direct.Punched, To: netip.MustParseAddrPort("198.51.100.1:4000")}
	got := f.probed(End{Path: met}, at("10.0.0.1/24"), direct.Places{Port: 5000, Local: []netip.Addr{netip.MustParseAddr("10.0.0.9")}, Seen: netip.MustParseAddrPort("198.51.100.66:5000")})
	if len(got) != 1 || got[0].To != netip.MustParseAddrPort("198.51.100.1:5000") {
		t.Errorf("tried: %v", got)
	}
}
