package datagram

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ztm/tunnel/direct"
)

// byHand is B, made by hand: it has the keys, and does as the test likes.
func (p *pair) byHand(t *testing.T, socket direct.Socket) *round {
	t.Helper()
	b, err := newRound(socket, Keys{p.keys.Receive, p.keys.Send}, named(p.a))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// talk probes at a pace that leaves no silence, and answers what it is to answer, until the socket is
// closed: stop does that, and waits.
func (r *round) talk(pace time.Duration, answers func(question []byte) bool) (stop func()) {
	var wg sync.WaitGroup
	var over atomic.Bool
	wg.Go(func() {
		for !over.Load() {
			r.probe(nil)
			<-time.After(pace)
		}
	})
	wg.Go(func() {
		defer over.Store(true)
		for b := make([]byte, maxPacket+1); ; {
			n, from, err := r.socket.ReadFrom(b)
			if err != nil {
				return
			}
			if says, to, ok := r.opens(b[:n], from); ok && isQuestion(says[0]) && answers(says) {
				says[0] |= answerBit
				r.send(to, says)
			}
		}
	})
	return func() {
		r.socket.Close()
		wg.Wait()
	}
}

func everything([]byte) bool { return true }

// A peer that has the keys talks on and on: the round ends in time, and few packets are sent for it.
func TestARoundEndsInTimeHoweverMuchAPeerSays(t *testing.T) {
	for name, answers := range map[string]func([]byte) bool{
		"it answers nothing":       func([]byte) bool { return false },
		"it answers short probes":  func(q []byte) bool { return q[0] == probeType && len(q) == 1 },
		"it answers every probe":   func(q []byte) bool { return q[0] == probeType },
		"it answers what is never": func(q []byte) bool { q[0] = byeType; return true },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPair()
				var sent atomic.Int64
				p.air.Set(func(from, _ netip.AddrPort, _ []byte) (netip.AddrPort, bool) {
					if from.Addr() == addressA {
						sent.Add(1)
					}
					return from, true
				})
				defer p.byHand(t, p.b).talk(30*time.Millisecond, answers)()
				time.AfterFunc(3*RoundTime, func() { p.b.Close() }) // so that this ends where the round does not
				began := time.Now()
				if _, err := Ask(t.Context(), p.a, p.keys, named(p.b)); err == nil {
					t.Error("they have met")
				}
				if took := time.Since(began); took > RoundTime+time.Second {
					t.Errorf("it took %v", took)
				}
				if n := sent.Load(); n > 100 {
					t.Errorf("%d packets were sent", n)
				}
			})
		})
	}
}

func TestARoundThatIsGivenUpEndsAtOnceHoweverMuchAPeerSays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair()
		defer p.byHand(t, p.b).talk(30*time.Millisecond, func([]byte) bool { return false })()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		time.AfterFunc(RoundTime, func() { p.b.Close() })
		began := time.Now()
		if _, err := Ask(ctx, p.a, p.keys, named(p.b)); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if took := time.Since(began); took > time.Second+probeEvery {
			t.Errorf("it took %v", took)
		}
	})
}

// The peer's firewall loses the first packets, while those of the peer come by more than one way.
func TestAPlaceIsProbedAgainWhileThePeerProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair()
		opens := time.Now().Add(probeEvery / 2)
		p.air.Set(func(from, to netip.AddrPort, _ []byte) (netip.AddrPort, bool) {
			return from, to != place(p.b) || time.Now().After(opens)
		})
		defer p.byHand(t, p.b).talk(probeEvery/3, everything)()
		a, err := Ask(t.Context(), p.a, p.keys, named(p.b))
		if err != nil {
			t.Error(err)
		} else {
			a.Leave()
		}
	})
}

// refuses is a socket that has an error for each packet to certain places, as on Windows, or where a
// host says that nobody listens.
type refuses struct {
	direct.Socket
	at   netip.Addr
	errs chan error
}

func (s *refuses) WriteTo(b []byte, to net.Addr) (int, error) {
	if a, ok := to.(*net.UDPAddr); ok && a.AddrPort().Addr() == s.at {
		s.errs <- errors.New("connection reset")
	}
	return s.Socket.WriteTo(b, to)
}

func (s *refuses) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case err := <-s.errs:
		return 0, nil, err
	default:
		return s.Socket.ReadFrom(b)
	}
}

func TestPlacesThatRefuseHoldUpNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair()
		nobody := netip.MustParseAddr("10.1.0.99")
		p.a = &refuses{p.a, nobody, make(chan error, 1000)}
		toB := named(p.b)
		for port := range uint16(3) {
			toB.Named = append(toB.Named, direct.Candidate{Kind: direct.LAN, To: netip.AddrPortFrom(nobody, 5000+port)})
		}
		if _, _, err := p.meet(t, toB, named(p.a)); err != nil {
			t.Error(err)
		}
	})
}

// A VPN is faster to answer, but its packets are short.
func TestAPlaceThatPassesLongPacketsIsTakenAlsoWhereAnotherAnswersFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair()
		narrow := p.air.Socket(netip.MustParseAddr("10.9.0.2"))
		opens := time.Now().Add(probeEvery / 2)
		p.air.Set(func(from, to netip.AddrPort, b []byte) (netip.AddrPort, bool) {
			if to == place(narrow) {
				return from, len(b) < 1000
			}
			return from, to != place(p.b) || time.Now().After(opens)
		})
		wide, other := p.byHand(t, p.b), p.byHand(t, narrow)
		other.out = wide.out
		defer wide.talk(time.Second, everything)()
		defer other.talk(time.Second, everything)()
		toB := named(p.b)
		toB.Named = append(toB.Named, direct.Candidate{Kind: direct.LAN, To: place(narrow)})
		switch a, err := Ask(t.Context(), p.a, p.keys, toB); {
		case err != nil:
			t.Error(err)
		case a.at.To != place(p.b):
			t.Errorf("it leads to %v", a.at)
		default:
			a.Leave()
		}
	})
}

// The answer is lost, and the peer's flows use the path already.
func TestADatagramOfAFlowSaysThatThePeerUsesThePath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair()
		var up atomic.Bool
		p.air.Set(func(from, _ netip.AddrPort, b []byte) (netip.AddrPort, bool) {
			return from, !(up.Load() && from == place(p.b) && len(b) == overhead+1)
		})
		var wg sync.WaitGroup
		wg.Go(func() {
			Answer(t.Context(), p.b, Keys{p.keys.Receive, p.keys.Send}, named(p.a), func(b *Path) {
				up.Store(true)
				b.Send(7, []byte("voice"))
			})
		})
		if _, err := Ask(t.Context(), p.a, p.keys, named(p.b)); err != nil {
			t.Error(err)
		}
		wg.Wait()
	})
}
