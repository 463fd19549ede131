package reach

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"ztm/apps/appstest"
	"ztm/tunnel/answer"
)

func TestMain(m *testing.M) { os.Exit(appstest.Run(m)) }

// network is a network that is not there: it says of each address after how long what happens. An address that it does
// not know stays silent.
type network struct {
	after map[string]time.Duration
	fails map[string]error

	mu    sync.Mutex
	tried []string   // guarded by mu
	conns []net.Conn // guarded by mu
}

func (n *network) dial(ctx context.Context, _, address string) (net.Conn, error) {
	n.mu.Lock()
	n.tried = append(n.tried, address)
	n.mu.Unlock()
	after, ok := n.after[address]
	if !ok {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	select {
	case <-time.After(after):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if err := n.fails[address]; err != nil {
		return nil, err
	}
	near, far := net.Pipe()
	far.Close()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.conns = append(n.conns, near)
	return near, nil
}

func addrs(texts ...string) []netip.Addr {
	var out []netip.Addr
	for _, t := range texts {
		out = append(out, netip.MustParseAddr(t))
	}
	return out
}

func TestASilentAddressCostsAQuarterOfASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &network{after: map[string]time.Duration{"192.0.2.2:80": 0}}
		began := time.Now()
		c, at, err := Dialer{Dial: n.dial}.Any(t.Context(), "tcp", addrs("192.0.2.1", "192.0.2.2"), 80)
		if err != nil || at != netip.MustParseAddr("192.0.2.2") {
			t.Fatalf("connected to %v: %v", at, err)
		}
		defer c.Close()
		if took := time.Since(began); took != AttemptDelay {
			t.Errorf("it took %v", took)
		}
	})
}

func TestAnAddressThatFailsIsFollowedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &network{
			after: map[string]time.Duration{"192.0.2.1:80": 0, "192.0.2.2:80": 0},
			fails: map[string]error{"192.0.2.1:80": syscall.ECONNREFUSED},
		}
		began := time.Now()
		c, _, err := Dialer{Dial: n.dial}.Any(t.Context(), "tcp", addrs("192.0.2.1", "192.0.2.2"), 80)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if took := time.Since(began); took != 0 {
			t.Errorf("it took %v", took)
		}
	})
}

func TestTheFamiliesTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &network{after: map[string]time.Duration{"192.0.2.1:80": 0}}
		c, _, err := Dialer{Dial: n.dial}.Any(t.Context(), "tcp", addrs("2001:db8::1", "2001:db8::2", "2001:db8::3", "192.0.2.1"), 80)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if want := []string{"[2001:db8::1]:80", "192.0.2.1:80"}; !slices.Equal(n.tried, want) {
			t.Errorf("tried %v, want %v", n.tried, want)
		}
	})
}

func TestTheSecondOfTwoConnectionsIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// Both answer in the same instant: no attempt is given up in time.
		n := &network{after: map[string]time.Duration{"192.0.2.1:80": AttemptDelay, "192.0.2.2:80": 0}}
		c, _, err := Dialer{Dial: n.dial}.Any(t.Context(), "tcp", addrs("192.0.2.1", "192.0.2.2"), 80)
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		for _, c := range n.conns {
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.ErrClosedPipe) {
				t.Errorf("a connection is left open: %v", err)
			}
		}
	})
}

func TestSilenceEndsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &network{}
		began := time.Now()
		_, _, err := Dialer{Dial: n.dial}.Any(t.Context(), "tcp", addrs("192.0.2.1", "192.0.2.2"), 80)
		if code := answer.CodeOf(Explain("the target", err)); code != answer.Timeout {
			t.Errorf("%v is called %s", err, code)
		}
		if took := time.Since(began); took != Timeout {
			t.Errorf("it took %v", took)
		}
	})
}

func TestARefusalSaysMoreThanSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &network{
			after: map[string]time.Duration{"[2001:db8::1]:80": 0, "192.0.2.1:80": 0},
			fails: map[string]error{"[2001:db8::1]:80": syscall.ENETUNREACH, "192.0.2.1:80": syscall.ECONNREFUSED},
		}
		_, _, err := Dialer{Dial: n.dial}.Any(t.Context(), "tcp", addrs("2001:db8::1", "192.0.2.1"), 80)
		if code := answer.CodeOf(Explain("the target", err)); code != answer.Refused {
			t.Errorf("%v is called %s", err, code)
		}
	})
}

func TestANameIsResolvedOnceAndAllItsAddressesAreTried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &network{after: map[string]time.Duration{"192.0.2.2:80": 0}}
		asked := 0
		d := Dialer{Dial: n.dial, Lookup: func(_ context.Context, _, host string) ([]netip.Addr, error) {
			asked++
			return addrs("192.0.2.1", "192.0.2.2"), nil
		}}
		c, err := d.Host(t.Context(), "tcp", "db.example.com", 80)
		if err != nil || asked != 1 {
			t.Fatalf("asked %d times: %v", asked, err)
		}
		c.Close()
	})
}

func TestNoAddressIsAnError(t *testing.T) {
	d := Dialer{Lookup: func(context.Context, string, string) ([]netip.Addr, error) { return nil, nil }}
	_, err := d.Host(t.Context(), "tcp", "db.example.com", 80)
	if code := answer.CodeOf(Explain("db.example.com", err)); code != answer.DNS {
		t.Errorf("%v is called %s", err, code)
	}
}

func TestTheSystemConnects(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	at := netip.MustParseAddrPort(ln.Addr().String())
	for _, host := range []string{"127.0.0.1", "localhost"} {
		c, err := Dialer{}.Host(t.Context(), "tcp", host, at.Port())
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
}
