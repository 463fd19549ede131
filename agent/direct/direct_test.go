package direct

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ztm/apps/appstest"
	"ztm/tunnel"
	"ztm/tunnel/direct"
	"ztm/tunnel/identity"
	"ztm/tunnel/identity/identitytest"
	"ztm/tunnel/inflight"
	"ztm/tunnel/limit"
	"ztm/tunnel/seal"
)

func TestMain(m *testing.M) { os.Exit(appstest.Run(m)) }

// fixture is a Direct of user alice at 10.0.0.1, which notes what it dials and reaches nobody.
type fixture struct {
	*Direct
	mode Mode
	leg  *tunnel.Leg

	first chan struct{} // gets one when something is dialled
	end   func()

	mu    sync.Mutex
	dials []netip.AddrPort // guarded by mu
}

// dialled lists what was dialled in the one round that there was.
func (f *fixture) dialled() []netip.AddrPort {
	<-f.first
	f.end()
	<-f.Work.Close()
	return f.dials
}

// at are the addresses of a device.
func at(prefixes ...string) (i direct.Interfaces) {
	for _, p := range prefixes {
		i.Own = append(i.Own, netip.MustParsePrefix(p))
	}
	return i
}

func newFixture(t *testing.T) *fixture {
	f := &fixture{mode: Auto, first: make(chan struct{}, 1)}
	life, end := context.WithCancel(t.Context())
	f.end = end
	t.Cleanup(end)
	log := slog.New(slog.DiscardHandler)
	f.Direct = New(Config{
		User: func() string { return "alice" }, Mode: func() Mode { return f.mode }, Log: log, PeerLog: limit.NewLog(log), Work: &inflight.Tracker{}, Life: life,
		Known: func(peer identity.ID) bool { return peer == "friend" },
		Network: &direct.Network{
			Addresses: func() (direct.Interfaces, error) { return at("10.0.0.1/24"), nil },
			Dial: func(ctx context.Context, _ uint16, to netip.AddrPort) (net.Conn, error) {
				f.mu.Lock()
				f.dials = append(f.dials, to)
				f.mu.Unlock()
				select {
				case f.first <- struct{}{}:
				default:
				}
				<-ctx.Done()
				return nil, ctx.Err()
			},
		},
	})
	return f
}

// connect gives the fixture a leg.
func (f *fixture) connect(t *testing.T, seen string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	f.leg = &tunnel.Leg{TCPConn: c.(*net.TCPConn), Seen: netip.MustParseAddrPort(seen)}
}

func wordOf(n byte) []byte { return bytes.Repeat([]byte{n}, roundLength) }

// ask has a peer send a request, and returns the answer; nil if there is none.
func (f *fixture) ask(path, user string, id identity.ID, o offer) *httptest.ResponseRecorder {
	return f.askOn(Session{End: End{Leg: f.leg}, Peer: identity.Subject{ID: id, User: user}}, path, o)
}

// askOn is ask on a session.
func (f *fixture) askOn(s Session, path string, o offer) *httptest.ResponseRecorder {
	b, err := json.Marshal(o)
	if err != nil {
		panic(err)
	}
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(string(b)))
	if !f.Serve(w, r, &s) {
		return nil
	}
	return w
}

func TestWhoIsNeitherOfTheUserNorKnownFindsNothing(t *testing.T) {
	f := newFixture(t)
	f.connect(t, "203.0.113.1:40000")
	o := offer{Round: wordOf(0)}
	if f.ask(seal.PathDirect, "bob", "outsider", o) != nil {
		t.Error("an outsider was answered")
	}
	if w := f.ask(seal.PathDirect, "bob", "friend", o); w == nil || w.Code != http.StatusOK || strings.Contains(w.Body.String(), "10.0.0.1") {
		t.Errorf("a peer of another user: %v", w)
	}
	o.Round = wordOf(1)
	if w := f.ask(seal.PathDirect, "alice", "own", o); w == nil || w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "10.0.0.1") {
		t.Errorf("a device of the same user: %v", w)
	}
	f.mode = Off
	o.Round = wordOf(2)
	if f.ask(seal.PathDirect, "alice", "own", o) != nil {
		t.Error("there was an answer although it is turned off")
	}
}

func TestARoundIsGoodOnceAndForThePeerThatBeganIt(t *testing.T) {
	f := newFixture(t)
	f.connect(t, "203.0.113.1:40000")
	o := offer{Round: wordOf(0), Places: direct.Places{Seen: netip.MustParseAddrPort("198.51.100.1:5000")}}
	if w := f.ask(seal.PathDirect, "alice", "own", o); w.Code != http.StatusOK {
		t.Fatal(w)
	}
	o.Seen = netip.MustParseAddrPort("198.51.100.66:5000") // another than before
	if w := f.ask(seal.PathDirectGo, "alice", "other", o); w.Code != http.StatusNotFound {
		t.Errorf("of another peer: %d", w.Code)
	}
	if w := f.ask(seal.PathDirectGo, "alice", "own", o); w.Code != http.StatusNoContent {
		t.Errorf("first: %d", w.Code)
	}
	if w := f.ask(seal.PathDirectGo, "alice", "own", o); w.Code != http.StatusNotFound {
		t.Errorf("again: %d", w.Code)
	}
	if d := f.dialled(); len(d) != 1 || d[0].Addr() != netip.MustParseAddr("198.51.100.1") {
		t.Errorf("dialled: %v", d)
	}
}

func TestAPeerBeginsFewRounds(t *testing.T) {
	f := newFixture(t)
	f.connect(t, "203.0.113.1:40000")
	for i := range byte(roundsPeer + 4) {
		w := f.ask(seal.PathDirect, "alice", "own", offer{Round: wordOf(i)})
		if want := map[bool]int{true: http.StatusOK, false: http.StatusTooManyRequests}[i < roundsPeer]; w.Code != want {
			t.Errorf("round %d: %d", i, w.Code)
		}
	}
	if w := f.ask(seal.PathDirect, "alice", "second", offer{Round: wordOf(20)}); w.Code != http.StatusOK {
		t.Errorf("another peer: %d", w.Code)
	}
}

func TestAFlowOfItsOwnWaitsForAWayThatIsProven(t *testing.T) {
	f := newFixture(t)
	f.connect(t, "203.0.113.1:40000")
	if w := f.ask(seal.PathDirect, "alice", "own", offer{Round: wordOf(0), Offload: true}); w.Code != http.StatusConflict {
		t.Errorf("%d", w.Code)
	}
}

func TestInTheLocalNetworkAloneNothingElseIsToldOrDialled(t *testing.T) {
	f := newFixture(t)
	f.connect(t, "203.0.113.1:40000")
	f.mode = LAN
	f.Network.Addresses = func() (direct.Interfaces, error) { return at("10.0.0.1/24", "2001:db8::1/64"), nil }
	theirs := direct.Places{Seen: netip.MustParseAddrPort("198.51.100.1:5000"), Port: 5000, Local: []netip.Addr{netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("2001:db8::2")}}
	o := offer{Round: wordOf(0), Places: theirs}
	w := f.ask(seal.PathDirect, "alice", "own", o)
	if strings.Contains(w.Body.String(), "203.0.113.1") || strings.Contains(w.Body.String(), "2001:db8") {
		t.Errorf("told: %s", w.Body)
	}
	f.ask(seal.PathDirectGo, "alice", "own", o)
	if d := f.dialled(); len(d) != 1 || d[0] != netip.MustParseAddrPort("10.0.0.2:5000") {
		t.Errorf("dialled: %v", d)
	}
}

// A peer may say that it is behind the same NAT. What counts is what the hub says of both.
func TestWhetherAPeerIsNearTheHubSaysAndNotThePeer(t *testing.T) {
	for _, near := range []bool{false, true} {
		f := newFixture(t)
		f.connect(t, "203.0.113.1:40000")
		f.leg.Near = near
		o := offer{Round: wordOf(0), Places: direct.Places{Seen: netip.MustParseAddrPort("203.0.113.1:5000"), Port: 5000,
			Local: []netip.Addr{netip.MustParseAddr("192.168.7.7")}}}
		w := f.ask(seal.PathDirect, "bob", "friend", o)
		if told := strings.Contains(w.Body.String(), "10.0.0.1"); told != near {
			t.Errorf("near: %v, and the peer is told %s", near, w.Body)
		}
		f.ask(seal.PathDirectGo, "bob", "friend", o)
		inside := slices.ContainsFunc(f.dialled(), func(a netip.AddrPort) bool { return a.Addr().IsPrivate() })
		if inside && !near {
			t.Errorf("a private address of another network was dialled: %v", f.dials)
		}
	}
}

// pipes is a connection in memory, and the far end of it.
func pipes(t *testing.T) (near, far net.Conn) {
	near, far = net.Pipe()
	t.Cleanup(func() { near.Close(); far.Close() })
	return near, far
}

func TestWhoDoesNotKnowTheRoundReadsNothing(t *testing.T) {
	for name, says := range map[string]string{"nothing": "", "another round": strings.Repeat("x", roundLength), "TLS at once": "\x16\x03\x01\x00\xff" + strings.Repeat("y", 300)} {
		synctest.Test(t, func(t *testing.T) {
			f := newFixture(t)
			near, far := pipes(t)
			go io.WriteString(far, says) // ends with far
			done := make(chan error, 1)
			go func() { // awaited below
				_, err := f.receive(t.Context(), &waiting{session: &Session{Peer: identity.Subject{ID: "own"}}, round: []byte(strings.Repeat("a", roundLength))}, near)
				done <- err
			}()
			if got, err := io.ReadAll(far); err != nil || len(got) > 0 {
				t.Errorf("%s: %q came back, %v", name, got, err)
			}
			if err := <-done; !errors.Is(err, errGreeting) {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
}

func TestAMemberThatLearnsARoundIsNotThePeer(t *testing.T) {
	m := identitytest.New(t, time.Now())
	b, peer, third := m.Member("alice"), m.Member("alice"), m.Member("alice")
	round := []byte(strings.Repeat("a", roundLength))
	for name, tt := range map[string]struct {
		comes identitytest.Device
		want  error
	}{"the peer": {peer, nil}, "a third one": {third, errPeer}} {
		f := newFixture(t)
		f.Verifier, f.Certificate = m.Verifier(), func() tls.Certificate { return b.Cert }
		near, far := pipes(t)
		done := make(chan error, 1)
		go func() { // awaited below
			_, err := f.receive(t.Context(), &waiting{session: &Session{Peer: identity.Subject{ID: peer.ID}}, round: round}, near)
			done <- err
		}()
		if _, err := far.Write(round); err != nil {
			t.Fatal(err)
		}
		c, err := seal.ClientDedicated(t.Context(), far, m.Verifier(), tt.comes.Cert, b.ID)
		if err == nil {
			defer c.Reset()
		}
		if err := <-done; !errors.Is(err, tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAPathThatComesAndGoesIsTriedLessAndLess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		ups := 0
		for began := time.Now(); time.Since(began) < time.Hour; {
			if f.Begin("peer") {
				ups++
				f.End("peer", direct.LAN, nil)
				<-time.After(10 * time.Second)
				f.Ended("peer", true)
			}
			<-time.After(time.Second)
		}
		if ups < 3 || ups > 6 {
			t.Errorf("%d times in an hour", ups)
		}
	})
}

// A path that has lasted may be had again at once: what broke was one of the two networks.
func TestAFlowThatBeginsAsAPathBreaksAsksWhenThatIsAllowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.Begin("peer")
		f.End("peer", direct.LAN, nil)
		<-time.After(proven)
		f.Ended("peer", true)
		<-time.After(time.Second)
		<-time.After(f.Delay("peer", 2*time.Second))
		if !f.Begin("peer") {
			t.Fatal("it is told no")
		}
		f.End("peer", direct.LAN, nil)
		f.Ended("peer", true) // the second time
		if d := f.Delay("peer", 2*time.Second); d != 2*time.Second {
			t.Errorf("where it takes long until the next round a flow waits %v", d)
		}
	})
}

func TestWhatFailedInAnotherNetworkSaysNothing(t *testing.T) {
	synctest.Test(t, testWhatFailedElsewhere)
}

func testWhatFailedElsewhere(t *testing.T) {
	f := newFixture(t)
	if !f.Begin("peer") || f.Begin("peer") {
		t.Fatal("not one round at a time")
	}
	if why := f.Why("peer"); why != Trying {
		t.Errorf("while it is tried: %q", why)
	}
	f.End("peer", "", NoWay)
	if f.Begin("peer") || f.Why("peer") != NoWay {
		t.Errorf("at once again; %q", f.Why("peer"))
	}
	f.Network.Addresses = func() (direct.Interfaces, error) { return at("10.9.0.1/24"), nil }
	<-time.After(lookEvery)
	if !f.Begin("peer") {
		t.Error("not in another network")
	}
	f.End("peer", direct.LAN, nil)
	if f.counts["no_way"] != 1 || f.counts["LAN"] != 1 || f.Why("peer") != "" {
		t.Errorf("counted: %v", f.counts)
	}
}

func TestAPathEndsWhereTheDeviceIsInAnotherNetworkAndNotWhereItIsInNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		done, began := make(chan struct{}), time.Now()
		f.Network.Addresses = func() (direct.Interfaces, error) {
			switch after := time.Since(began); {
			case after > 10*time.Second && after < 20*time.Second:
				return direct.Interfaces{}, nil
			case after < time.Minute:
				return at("10.0.0.1/24"), nil
			}
			return at("10.9.0.1/24"), nil
		}
		f.Watch(netip.MustParseAddr("10.0.0.1"), done, func() { close(done) })
		if after := time.Since(began); after < time.Minute || after > time.Minute+lookEvery {
			t.Errorf("it ended after %v", after)
		}
	})
}

func TestAPathThatBeginsAsSoonAsTheDeviceIsElsewhereEndsWhereItLeavesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		began := time.Now()
		f.Network.Addresses = func() (direct.Interfaces, error) {
			switch after := time.Since(began); {
			case after < time.Second:
				return at("10.0.0.1/24"), nil
			case after < 10*time.Second:
				return at("10.9.0.1/24"), nil
			}
			return at("10.8.0.1/24"), nil
		}
		over := make(chan struct{})
		close(over)
		f.Watch(netip.MustParseAddr("10.0.0.1"), over, nil) // looks at the old network
		<-time.After(time.Second)
		done, gone := make(chan struct{}), false
		late := time.AfterFunc(time.Minute, func() { close(done) })
		f.Watch(netip.MustParseAddr("10.9.0.1"), done, func() {
			gone = late.Stop()
			close(done)
		})
		if !gone {
			t.Error("nobody saw that it left")
		}
	})
}

func TestNoRoundBeginsWhereThatIsTurnedOff(t *testing.T) {
	f := newFixture(t)
	f.mode = Off
	if f.Begin("peer") || f.Datagrams.Begin("peer") {
		t.Error("one does, and tells the peer where this device is seen")
	}
}

func TestFewRoundsRunAtOnce(t *testing.T) {
	f := newFixture(t)
	for i := range roundsAtOnce + 2 {
		if got := f.Begin(identity.ID(rune('a' + i))); got != (i < roundsAtOnce) {
			t.Errorf("round %d: %v", i, got)
		}
	}
}

func FuzzOffer(f *testing.F) {
	f.Add([]byte(`{"round":"ABEiM0RVZneImaq7zN3u/w==","seen":"203.0.113.1:5000","port":5000,"local":["10.0.0.1"]}`))
	f.Add([]byte(`{"round":"","local":["::1%lo"]}`))
	f.Add([]byte(`{"round":"ABEiM0RVZneImaq7zN3u/w==","local":["10.0.0.1","10.0.0.2","10.0.0.3","10.0.0.4","10.0.0.5","10.0.0.6","10.0.0.7","10.0.0.8","10.0.0.9"]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		o, err := parseOffer(b)
		if err == nil && (len(o.Round) != roundLength || len(o.Local) > direct.MaxPlaces) {
			t.Errorf("taken: %+v", o)
		}
	})
}
