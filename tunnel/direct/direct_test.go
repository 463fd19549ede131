package direct

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func prefixes(ss ...string) (out []netip.Prefix) {
	for _, s := range ss {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

// at is what a peer says that has one port.
func at(seen string, port uint16, addresses ...string) Places {
	p := Places{Port: port}
	if seen != "" {
		p.Seen = netip.MustParseAddrPort(seen)
	}
	for _, a := range addresses {
		p.Local = append(p.Local, netip.MustParseAddr(a))
	}
	return p
}

func TestTheShortestWayComesFirstAndNoServiceIsDialled(t *testing.T) {
	here := Interfaces{Own: prefixes("192.168.1.2/24", "2001:db8::2/64", "10.8.1.2/24"), Virtual: prefixes("172.17.0.1/16", "10.8.0.1/16")}
	for name, tt := range map[string]struct {
		peer Places // more of them than MaxPlaces are not looked at
		near bool
		want []string
	}{
		"a neighbour": {at("203.0.113.9:5000", 5001, "2001:db8:1::1", "192.168.1.3"), false,
			[]string{"LAN 192.168.1.3:5001", "IPv6 [2001:db8:1::1]:5001", "punched 203.0.113.9:5000"}},
		"a private address of another network": {at("203.0.113.9:5000", 5000, "10.0.0.1", "100.64.0.1"), false,
			[]string{"punched 203.0.113.9:5000"}},
		"another network behind the same NAT": {at("203.0.113.1:5000", 5000, "10.0.0.1"), true,
			[]string{"LAN 10.0.0.1:5000", "punched 203.0.113.1:5000"}},
		"containers of this machine": {at("203.0.113.1:5000", 5000, "172.17.0.2", "172.17.0.1", "10.8.2.1"), true,
			[]string{"punched 203.0.113.1:5000"}},
		"a network of ours within that of another mesh": {at("203.0.113.1:5000", 5000, "10.8.1.3"), false,
			[]string{"LAN 10.8.1.3:5000", "punched 203.0.113.1:5000"}},
		"what is nobody's, everybody's or ours": {at("127.0.0.1:5000", 5000,
			"169.254.169.254", "224.0.0.1", "0.0.0.0", "0.1.2.3", "240.0.0.1", "255.255.255.255", "192.168.1.2"), true, nil},
		"the same in IPv6": {at("[::1]:5000", 5000,
			"::ffff:127.0.0.1", "fe80::1", "ff02::1", "64:ff9b::7f00:1", "::7f00:1", "fec0::1", "2001:db8::2"), true, nil},
		"a service":                         {at("203.0.113.9:443", 22, "192.168.1.3"), false, nil},
		"no port":                           {at("203.0.113.9:0", 0, "192.168.1.3"), false, nil},
		"one place twice":                   {at("198.51.100.1:5000", 5000, "198.51.100.1", "::ffff:198.51.100.1"), false, []string{"punched 198.51.100.1:5000"}},
		"a hub that says a private address": {at("192.168.1.9:5000", 0), false, nil},
		"more than a peer may say": {at("", 5000, "198.51.100.1", "198.51.100.2", "198.51.100.3", "198.51.100.4", "198.51.100.5", "198.51.100.6", "198.51.100.7", "198.51.100.8", "192.168.1.3"), false,
			[]string{"punched 198.51.100.1:5000", "punched 198.51.100.2:5000", "punched 198.51.100.3:5000", "punched 198.51.100.4:5000",
				"punched 198.51.100.5:5000", "punched 198.51.100.6:5000", "punched 198.51.100.7:5000", "punched 198.51.100.8:5000"}},
	} {
		var got []string
		for _, c := range Order(here, tt.near, tt.peer) {
			got = append(got, string(c.Kind)+" "+c.To.String())
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestAnOutsiderIsToldNoPrivateAddress(t *testing.T) {
	addresses := prefixes("10.0.0.1/8", "2001:db8::1/64", "100.64.0.1/10")
	if got := Own(addresses, netip.AddrPort{}, 5000, false, true).Local; len(got) != 1 || got[0] != addresses[1].Addr() {
		t.Errorf("an outsider is told %v", got)
	}
	if got := Own(addresses, netip.AddrPort{}, 5000, true, true).Local; len(got) != 3 {
		t.Errorf("a device of the same user is told %v", got)
	}
}

type nothing struct{ net.Conn }

func (nothing) Close() error { return nil }

func TestARoundEndsInTimeWhateverAnswers(t *testing.T) {
	refused, hangs := errors.New("refused"), func(ctx context.Context, _ uint16, _ netip.AddrPort) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	var dials atomic.Int32
	for name, dial := range map[string]func(context.Context, uint16, netip.AddrPort) (net.Conn, error){
		"nothing": hangs,
		"refusals": func(context.Context, uint16, netip.AddrPort) (net.Conn, error) {
			dials.Add(1)
			return nil, refused
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			_, _, err := Dial(t.Context(), &Network{Dial: dial}, 5000, two[:1],
				func(context.Context, net.Conn) (io.Closer, error) { return nothing{}, nil })
			if err != ErrNone || time.Since(began) > RoundTime {
				t.Errorf("%s: %v after %v", name, err, time.Since(began))
			}
		})
	}
	if n := dials.Load(); n > maxDials {
		t.Errorf("%d dials of one place", n)
	}
}

// connected connects at once, whatever is dialled.
func connected(context.Context, uint16, netip.AddrPort) (net.Conn, error) {
	near, _ := net.Pipe()
	return near, nil
}

var two = []Candidate{{Kind: LAN, To: netip.MustParseAddrPort("10.0.0.1:5000")}, {Kind: Punched, To: netip.MustParseAddrPort("198.51.100.1:5000")}}

func TestTheFirstThatIsSealedWinsAndOthersAreClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		closed := make(chan struct{}, 2)
		_, by, err := Dial(t.Context(), &Network{Dial: connected}, 5000, two, func(context.Context, net.Conn) (io.Closer, error) {
			return closing{closed}, nil
		})
		if err != nil || by.Kind == "" || len(closed) != 1 {
			t.Errorf("%v, %v, %d closed", by, err, len(closed))
		}
	})
}

func TestWhyNothingWasSealedIsSaid(t *testing.T) {
	no := errors.New("another certificate")
	_, _, err := Dial(t.Context(), &Network{Dial: connected}, 5000, two[:1], func(context.Context, net.Conn) (io.Closer, error) { return nothing{}, no })
	if !errors.Is(err, no) || !errors.Is(err, ErrNone) {
		t.Error(err)
	}
}

// The peer may choose another connection than the first one here.
func TestTheOneThatAnswersEndsDialsAndNoConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		third := append(slices.Clone(two), Candidate{Kind: Punched, To: netip.MustParseAddrPort("198.51.100.2:5000")})
		n := &Network{Dial: func(ctx context.Context, from uint16, to netip.AddrPort) (net.Conn, error) {
			if to == third[2].To {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return connected(ctx, from, to)
		}}
		began := time.Now()
		var served atomic.Int32
		Answer(t.Context(), n, 5000, third, func(ctx context.Context, c Candidate, _ net.Conn) bool {
			if c == third[0] {
				return true
			}
			<-time.After(time.Second) // the other one has been waited for by then
			if ctx.Err() == nil {
				served.Add(1)
			}
			return false
		})
		if served.Load() != 1 || time.Since(began) != time.Second {
			t.Errorf("%d served in %v", served.Load(), time.Since(began))
		}
	})
}

type closing struct{ closed chan struct{} }

func (c closing) Close() error { c.closed <- struct{}{}; return nil }

func FuzzPlaces(f *testing.F) {
	f.Add([]byte(`{"seen":"203.0.113.1:5000","port":5000,"local":["10.0.0.1"]}`))
	f.Add([]byte(`{"port":5000,"local":["fe80::1%eth0"]}`))
	f.Add([]byte(`{"port":5000,"local":["10.0.0.1","10.0.0.2","10.0.0.3","10.0.0.4","10.0.0.5","10.0.0.6","10.0.0.7","10.0.0.8","10.0.0.9"]}`))
	here := Interfaces{Own: prefixes("10.0.0.2/8"), Virtual: prefixes("172.17.0.1/16")}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := Parse(b)
		if err != nil {
			return
		}
		if len(p.Local) > MaxPlaces {
			t.Errorf("%d places were taken", len(p.Local))
		}
		for _, c := range Order(here, len(b)%2 == 0, p) {
			if a := c.To.Addr(); here.Virtual[0].Contains(a) || a.IsLoopback() || a.IsLinkLocalUnicast() || a.IsMulticast() || a.IsUnspecified() || c.To.Port() < leastPort {
				t.Errorf("%v would be dialled", c.To)
			}
		}
	})
}
