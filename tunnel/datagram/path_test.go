package datagram

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ztm/tunnel/direct"
	"ztm/tunnel/direct/directtest"
)

var (
	addressA = netip.MustParseAddr("10.1.0.1")
	addressB = netip.MustParseAddr("10.1.0.2")
	outsider = netip.MustParseAddrPort("10.1.0.66:6666")
)

// pair is what two devices know of each other.
type pair struct {
	air  *directtest.Air
	a, b direct.Socket
	keys Keys // of a

	meanwhile func() // is called when B waits for A; nil: nothing is to be done
}

func newPair() *pair {
	air := directtest.NewAir()
	return &pair{air: air, a: air.Socket(addressA), b: air.Socket(addressB),
		keys: Keys{bytes.Repeat([]byte("a"), KeySize), bytes.Repeat([]byte("b"), KeySize)}}
}

func place(s direct.Socket) netip.AddrPort { return netip.MustParseAddrPort(s.LocalAddr().String()) }

// others are the places of a peer, as one that it names.
func named(s direct.Socket) Places {
	return Places{Named: []direct.Candidate{{Kind: direct.LAN, To: place(s)}}, Others: true}
}

// meet has the two meet, and runs what comes of it until the test ends.
func (p *pair) meet(t *testing.T, toB, toA Places) (a, b *Path, err error) {
	t.Helper()
	var wg sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	t.Cleanup(func() { stop(); wg.Wait() })
	met := make(chan *Path, 1)
	wg.Go(func() {
		defer close(met)
		path, err := Answer(ctx, p.b, Keys{p.keys.Receive, p.keys.Send}, toA, func(path *Path) { met <- path })
		if err == nil {
			path.Run(ctx, nil)
		}
	})
	if p.meanwhile != nil {
		p.meanwhile()
	}
	if a, err = Ask(ctx, p.a, p.keys, toB); err != nil {
		return nil, nil, err
	}
	b = <-met
	wg.Go(func() { a.Run(ctx, nil) })
	return a, b, nil
}

// arrives waits until a flow has a datagram, and returns it.
func arrives(t *testing.T, p *Path, flow uint32, send func()) string {
	t.Helper()
	there := make(chan struct{}, 100)
	p.Enlist(flow, func() { there <- struct{}{} })
	defer p.Delist(flow)
	send()
	<-there
	b := make([]byte, 2*MaxPayload)
	n, ok := p.Next(flow, b)
	if !ok {
		t.Error("nothing is there")
	}
	return string(b[:n])
}

func TestDatagramsGoBothWaysOncePeersHaveMet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair()
		a, b, err := p.meet(t, named(p.b), named(p.a))
		if err != nil {
			t.Fatal(err)
		}
		if a.at.Kind != direct.LAN || a.at.From != addressA || b.at.From != addressB {
			t.Errorf("%+v, %+v", a.at, b.at)
		}
		for _, text := range []string{"", "short", strings.Repeat("long", MaxPayload/4)} {
			if got := arrives(t, b, 5, func() { a.Send(5, []byte(text)) }); got != text {
				t.Errorf("B got %q", got)
			}
			if got := arrives(t, a, 5, func() { b.Send(5, []byte(text)) }); got != text {
				t.Errorf("A got %q", got)
			}
		}
		if a.Send(5, make([]byte, MaxPayload+1)) {
			t.Error("one that is too long was taken")
		}
		if p.air.Open() != 2 {
			t.Errorf("%d sockets are open", p.air.Open())
		}
	})
}

// A NAT gives one side another port than it knows of: the other one sees where its packets come from.
func TestAPlaceThatNobodyNamedIsFound(t *testing.T) {
	for _, others := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			p := newPair()
			outside := netip.MustParseAddrPort("203.0.113.7:50000")
			p.air.Set(func(from, to netip.AddrPort, _ []byte) (netip.AddrPort, bool) {
				if from == place(p.b) {
					return outside, true
				}
				return from, to == outside // nothing comes in at the port inside
			})
			toB := named(p.b)
			toB.Others = others
			a, _, err := p.meet(t, toB, named(p.a))
			switch {
			case !others && !errors.Is(err, ErrNone):
				t.Errorf("another place is not wanted: %v", err)
			case others && (err != nil || a.at.To != outside || a.at.Kind != direct.Punched):
				t.Errorf("%v, %v", a, err)
			}
		})
	}
}

func TestARoundEndsWhereNothingOrNothingLongGetsThrough(t *testing.T) {
	for want, passes := range map[error]directtest.Passes{
		ErrNone:   directtest.None,
		ErrNarrow: func(from, _ netip.AddrPort, b []byte) (netip.AddrPort, bool) { return from, len(b) < 1000 },
	} {
		synctest.Test(t, func(t *testing.T) {
			p := newPair()
			p.air.Set(passes)
			began := time.Now()
			if _, _, err := p.meet(t, named(p.b), named(p.a)); !errors.Is(err, want) {
				t.Errorf("%v, want %v", err, want)
			}
			if took := time.Since(began); took > RoundTime+time.Second {
				t.Errorf("it took %v", took)
			}
			<-time.After(2 * RoundTime)
			if n := p.air.Open(); n != 0 {
				t.Errorf("%d sockets are open", n)
			}
		})
	}
}

// The hub lies about where a peer is: what is sent there is little.
func TestAPlaceThatDoesNotAnswerGetsFewPackets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair()
		victim := netip.MustParseAddrPort("198.51.100.9:4444")
		packets, bytes := 0, 0
		p.air.Set(func(from, to netip.AddrPort, b []byte) (netip.AddrPort, bool) {
			if to == victim {
				packets++
				bytes += len(b)
			}
			return from, true
		})
		Ask(t.Context(), p.a, p.keys, Places{Named: []direct.Candidate{{Kind: direct.Punched, To: victim}}, Others: true})
		if packets == 0 || packets > 41 || bytes > 41*(overhead+1) {
			t.Errorf("%d packets, %d bytes", packets, bytes)
		}
	})
}

// A million random datagrams, packets of the path that outsiders have seen, and packets that they have
// changed, from the peer's place and from another, while B looks for A and later: not a byte is sent to
// them, nothing is delivered, and nothing comes twice.
func TestOutsidersHearNothing(t *testing.T) {
	most := 250_000
	if testing.Short() {
		most = 10_000
	}
	synctest.Test(t, func(t *testing.T) {
		p := newPair()
		toOutsider, ofB := 0, 0
		var seen [][]byte
		var mu sync.Mutex
		p.air.Set(func(from, to netip.AddrPort, b []byte) (netip.AddrPort, bool) {
			mu.Lock()
			defer mu.Unlock()
			if to == outsider {
				toOutsider++
			}
			if from == place(p.b) {
				ofB++
			}
			seen = append(seen, bytes.Clone(b))
			return from, true
		})
		b := place(p.b)
		attack := func(when string) {
			synctest.Wait()
			mu.Lock()
			before, all := ofB, slices.Clone(seen)
			mu.Unlock()
			p.attack(b, all, most)
			mu.Lock()
			defer mu.Unlock()
			if ofB != before || toOutsider > 0 {
				t.Errorf("%s %d packets are sent, and %d to the outsider", when, ofB-before, toOutsider)
			}
		}
		p.meanwhile = func() { attack("while B looks for A") }
		a, far, err := p.meet(t, named(p.b), named(p.a))
		if err != nil {
			t.Fatal(err)
		}
		if got := arrives(t, far, 1, func() { a.Send(1, []byte("once")) }); got != "once" {
			t.Fatal(got)
		}
		synctest.Wait()
		far.Enlist(1, func() { t.Error("something is delivered") })
		for _, late := range slices.Clone(seen) { // what was lost on the way may come late, once
			p.air.Inject(place(p.a), b, late)
		}
		attack("on the path")
		if far.Waits(1) {
			t.Error("something is there")
		}
	})
}

// attack sends a socket what an outsider has. It waits now and then: a socket holds little.
func (p *pair) attack(to netip.AddrPort, seen [][]byte, random int) {
	chaos := rand.NewChaCha8([32]byte{1})
	inject := func(b []byte) {
		p.air.Inject(outsider, to, b)
		p.air.Inject(place(p.a), to, b)
	}
	for i := range random {
		b := make([]byte, chaos.Uint64()%(maxPacket+10))
		chaos.Read(b)
		if len(b) >= counterSize && i%2 == 0 { // a counter that may come
			binary.BigEndian.PutUint64(b, chaos.Uint64()%100)
		}
		if inject(b); i%100 == 0 {
			synctest.Wait()
		}
	}
	for _, b := range seen {
		changed := bytes.Clone(b)
		changed[len(b)-1] ^= 1
		inject(changed)
		inject(b)
		synctest.Wait()
	}
}

func TestAPathThatGoesBlackIsLeftAtOnceAndGivenUpSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair()
		a, b, err := p.meet(t, named(p.b), named(p.a))
		if err != nil {
			t.Fatal(err)
		}
		<-time.After(20 * time.Second) // it is alive at rest
		if !a.Send(1, nil) {
			t.Fatal("it does not stand")
		}
		<-time.After(lookEvery)
		p.air.Set(directtest.None)
		began := time.Now()
		for a.Send(1, nil) {
			<-time.After(20 * time.Millisecond)
		}
		if took := time.Since(began); took > 2*answerTimeout {
			t.Errorf("datagrams are lost for %v", took)
		}
		<-a.Done()
		if took := time.Since(began); took > maxSilent+answerTimeout || a.ending != Silent {
			t.Errorf("%v after %v", a.ending, took)
		}
		<-b.Done() // whose own signs of life are not answered
	})
}

// What is lost for less than it takes to give up is no end.
func TestAPathThatComesBackIsUsedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair()
		a, _, err := p.meet(t, named(p.b), named(p.a))
		if err != nil {
			t.Fatal(err)
		}
		p.air.Set(directtest.None)
		for a.Send(1, nil) {
			<-time.After(20 * time.Millisecond)
		}
		p.air.Set(directtest.All)
		<-time.After(2 * lookEvery)
		if !a.Send(1, nil) {
			t.Error("it is not used again")
		}
	})
}

func TestAPathEndsAtRestAtBothEndsAndHasNoSocketThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair()
		a, b, err := p.meet(t, named(p.b), named(p.a))
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		<-a.Done()
		<-b.Done()
		if rest := time.Since(began); rest < maxIdle || rest > maxIdle+2*lookEvery {
			t.Errorf("it lasts %v", rest)
		}
		if a.Send(1, nil) || p.air.Open() != 0 {
			t.Errorf("%d sockets are open", p.air.Open())
		}
	})
}

func TestWhoClosesAPathEndsThePeersToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair()
		a, b, err := p.meet(t, named(p.b), named(p.a))
		if err != nil {
			t.Fatal(err)
		}
		b.Leave()
		<-a.Done()
		if a.ending != ByPeer {
			t.Errorf("it ends: %s", a.ending)
		}
	})
}

// A reader that stops holds little, in one flow and in many.
func TestWhatNobodyReadsIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair()
		a, b, err := p.meet(t, named(p.b), named(p.a))
		if err != nil {
			t.Fatal(err)
		}
		for flow := range uint32(20) {
			b.Enlist(flow+1, func() {})
			for range 3 * maxQueued {
				a.Send(flow+1, make([]byte, MaxPayload))
			}
			synctest.Wait()
			if n := len(b.flows[flow+1].all); n > maxQueued {
				t.Errorf("%d datagrams of one flow", n)
			}
		}
		if b.held > maxHeld || b.held < maxHeld/2 {
			t.Errorf("%d bytes are held", b.held)
		}
		for flow := range uint32(20) {
			b.Delist(flow + 1)
		}
		if b.held != 0 {
			t.Errorf("%d bytes are held after the end of all flows", b.held)
		}
		a.Send(99, []byte("of no flow"))
		synctest.Wait()
		if b.held != 0 {
			t.Error("a datagram of no flow is held")
		}
	})
}

// By two sockets of the system, which is not one in memory.
func TestPeersMeetBySocketsOfTheSystem(t *testing.T) {
	p := &pair{keys: newPair().keys}
	for _, s := range []*direct.Socket{&p.a, &p.b} {
		var err error
		if *s, err = direct.OpenSocket(); err != nil {
			t.Skip(err)
		}
	}
	at := func(s direct.Socket) Places {
		return Places{Named: []direct.Candidate{{Kind: direct.LAN, To: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), place(s).Port())}}}
	}
	a, b, err := p.meet(t, at(p.b), at(p.a))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		text := fmt.Sprint("number ", i)
		if got := arrives(t, b, 1, func() { a.Send(1, []byte(text)) }); got != text {
			t.Errorf("B got %q", got)
		}
		if got := arrives(t, a, 1, func() { b.Send(1, []byte(text)) }); got != text {
			t.Errorf("A got %q", got)
		}
	}
}
