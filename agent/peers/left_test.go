package peers

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	meeting "ztm/tunnel/direct"
	"ztm/tunnel/identity"
	"ztm/tunnel/metric"
)

// roaming are hubs as a device sees them that goes from one network to another.
type roaming struct {
	*twoHubs
	at   atomic.Pointer[netip.Addr]
	left chan netip.Addr
}

// placed is a connection that begins at an address.
type placed struct {
	*line
	at netip.Addr
}

func (p placed) LocalAddr() net.Addr { return net.TCPAddrFromAddrPort(netip.AddrPortFrom(p.at, 5000)) }

func (r *roaming) Path(ctx context.Context, to identity.ID, dedicated bool, avoid identity.ID) (net.Conn, identity.ID, error) {
	c, hub, err := r.twoHubs.Path(ctx, to, dedicated, avoid)
	return placed{c.(*line), *r.at.Load()}, hub, err
}

func (r *roaming) Left(from netip.Addr) { r.left <- from }

func TestInAnotherNetworkNewFlowsDoNotWaitForASessionOfTheOldOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, h, end := pairOf(t, &counting{}, "hub")
		defer end()
		home, street := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.9.0.1")
		r := &roaming{twoHubs: h, left: make(chan netip.Addr, 9)}
		r.at.Store(&home)
		a.Hubs = r
		a.Network.Addresses = func() (meeting.Interfaces, error) {
			return meeting.Interfaces{Own: []netip.Prefix{netip.PrefixFrom(*r.at.Load(), 24)}}, nil
		}
		if _, err := opens(t, a, h.to.Self); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		defer h.halt("hub", true)()
		r.at.Store(&street)
		<-time.After(5 * time.Second) // the old session is closed, which may wait for the peer
		if took, err := opens(t, a, h.to.Self); err != nil || took > time.Second {
			t.Errorf("a flow took %v: %v", took, err)
		}
		if len(r.left) != 1 || <-r.left != home {
			t.Error("sessions with hubs stay in the old network")
		}
	})
}

func TestSessionsAreCountedByTheirPath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, h, end := pairOf(t, &counting{}, "hub")
		defer end()
		if _, err := opens(t, a, h.to.Self); err != nil {
			t.Fatal(err)
		}
		a.pool.add("other", &outSession{Session: &fakeSession{}, directly: directly{at: meeting.Candidate{Kind: meeting.IPv6}}})
		a.pool.add("over", &outSession{Session: &fakeSession{over: true}})
		defer func() { // fakes cannot be closed
			a.pool.mu.Lock()
			defer a.pool.mu.Unlock()
			delete(a.pool.peers, "other")
			delete(a.pool.peers, "over")
		}()
		for p, want := range map[*Peers][]string{a: {`{path="IPv6"} 1`, `{path="relayed"} 1`}, h.to: {`{path="relayed"} 1`}} {
			var out bytes.Buffer
			var set metric.Set
			p.Metrics(set.With())
			set.WriteTo(&out)
			if n := strings.Count(out.String(), "ztm_mesh_sessions{"); n != len(want) {
				t.Errorf("%d paths:\n%s", n, out.String())
			}
			for _, line := range want {
				if !strings.Contains(out.String(), "ztm_mesh_sessions"+line+"\n") {
					t.Errorf("without %s:\n%s", line, out.String())
				}
			}
		}
	})
}
