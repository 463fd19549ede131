package direct

import (
	"context"
	"errors"
	"net"
	"net/netip"
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

func places(ss ...string) (out []netip.AddrPort) {
	for _, s := range ss {
		out = append(out, netip.MustParseAddrPort(s))
	}
	return out
}

func TestTheShortestWayComesFirstAndNoServiceIsDialled(t *testing.T) {
	own := prefixes("192.168.1.2/24", "2001:db8::2/64")
	seen := netip.MustParseAddrPort("203.0.113.1:40000")
	for name, tt := range map[string]struct {
		peer Places
		want []string
	}{
		"a neighbour": {Places{netip.MustParseAddrPort("203.0.113.9:5000"), places("[2001:db8:1::1]:5000", "192.168.1.3:5000")},
			[]string{"LAN 192.168.1.3:5000", "IPv6 [2001:db8:1::1]:5000", "punched 203.0.113.9:5000"}},
		"a private address of another network": {Places{netip.MustParseAddrPort("203.0.113.9:5000"), places("10.0.0.1:5000", "100.64.0.1:5000")},
			[]string{"punched 203.0.113.9:5000"}},
		"another network behind the same NAT": {Places{netip.MustParseAddrPort("203.0.113.1:5000"), places("10.0.0.1:5000")},
			[]string{"LAN 10.0.0.1:5000", "punched 203.0.113.1:5000"}},
		"what is nobody's, everybody's or ours": {Places{netip.MustParseAddrPort("127.0.0.1:5000"),
			places("169.254.169.254:5000", "224.0.0.1:5000", "0.0.0.0:5000", "192.168.1.2:5000", "[::1]:5000", "[::ffff:127.0.0.1]:5000", "[fe80::1]:5000", "0.1.2.3:5000")}, nil},
		"a service":                         {Places{Local: places("192.168.1.3:22", "192.168.1.3:0")}, nil},
		"one place twice":                   {Places{netip.MustParseAddrPort("198.51.100.1:5000"), places("198.51.100.1:5000", "[::ffff:198.51.100.1]:5000")}, []string{"punched 198.51.100.1:5000"}},
		"a hub that says a private address": {Places{Seen: netip.MustParseAddrPort("192.168.1.9:5000")}, nil},
	} {
		var got []string
		for _, c := range Order(own, seen, tt.peer) {
			got = append(got, string(c.Kind)+" "+c.To.String())
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestAStrangerIsToldNoPrivateAddress(t *testing.T) {
	addresses := prefixes("10.0.0.1/8", "2001:db8::1/64", "100.64.0.1/10")
	if got := Own(addresses, netip.AddrPort{}, 5000, false).Local; !cmp.Equal(got, places("[2001:db8::1]:5000"), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })) {
		t.Errorf("a stranger is told %v", got)
	}
	if got := Own(addresses, netip.AddrPort{}, 5000, true).Local; len(got) != 3 {
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
			_, _, err := Dial(t.Context(), &Network{Dial: dial}, 5000, []Candidate{{LAN, places("10.0.0.1:5000")[0]}},
				func(context.Context, net.Conn) (nothing, error) { return nothing{}, nil })
			if err != ErrNone || time.Since(began) > RoundTime {
				t.Errorf("%s: %v after %v", name, err, time.Since(began))
			}
		})
	}
	if n := dials.Load(); n > maxDials {
		t.Errorf("%d dials of one place", n)
	}
}

func TestTheFirstThatIsSealedWinsAndOthersAreClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dial := func(ctx context.Context, _ uint16, to netip.AddrPort) (net.Conn, error) {
			near, _ := net.Pipe()
			return near, nil
		}
		closed := make(chan struct{}, 2)
		_, kind, err := Dial(t.Context(), &Network{Dial: dial}, 5000, []Candidate{{LAN, places("10.0.0.1:5000")[0]}, {Punched, places("198.51.100.1:5000")[0]}},
			func(context.Context, net.Conn) (closing, error) {
				return closing{closed}, nil
			})
		if err != nil || kind == "" || len(closed) != 1 {
			t.Errorf("%q, %v, %d closed", kind, err, len(closed))
		}
	})
}

type closing struct{ closed chan struct{} }

func (c closing) Close() error { c.closed <- struct{}{}; return nil }

func FuzzPlaces(f *testing.F) {
	f.Add([]byte(`{"seen":"203.0.113.1:5000","local":["10.0.0.1:5000"]}`))
	f.Add([]byte(`{"local":["[fe80::1%eth0]:5000"]}`))
	own := prefixes("10.0.0.2/8")
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := Parse(b)
		if err != nil {
			return
		}
		for _, c := range Order(own, netip.AddrPort{}, p) {
			if a := c.To.Addr(); a.IsLoopback() || a.IsLinkLocalUnicast() || a.IsMulticast() || a.IsUnspecified() || c.To.Port() < leastPort {
				t.Errorf("%v would be dialled", c.To)
			}
		}
	})
}
