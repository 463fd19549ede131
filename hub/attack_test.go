package hub

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"ztm/apps/appstest"
	"ztm/hub/limits"
	"ztm/tunnel"
	"ztm/tunnel/handshake"
	"ztm/tunnel/identity"
)

// honest is a pair of endpoints that go on with their work while others attack the hub.
type honest struct {
	a, b *online
	line net.Conn      // a path that stands
	ping time.Duration // a round trip on it, before the attack
}

// newHonest connects a pair. b answers every path.
func newHonest(t *testing.T, h *testHub) *honest {
	t.Helper()
	p := &honest{a: h.device("alice").online("honest-a"), b: h.device("bert").online("honest-b")}
	p.b.answer(echo)
	var err error
	if p.line, err = p.a.carry(p.b.id, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.line.Close() })
	p.ping = p.pings(t)
	return p
}

// pings returns the shortest of many round trips: what the machine does besides is not the hub's.
func (p *honest) pings(t *testing.T) time.Duration {
	t.Helper()
	var all []time.Duration
	for range 100 {
		began := time.Now()
		if _, err := p.line.Write([]byte{1}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(p.line, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		all = append(all, time.Since(began))
	}
	return slices.Min(all)
}

// works checks that the pair works on: a new path stands within a second, and a round trip takes
// not much longer than before. Of several the quickest counts, and all must succeed.
func (p *honest) works(t *testing.T) {
	t.Helper()
	quickest := time.Hour
	for range 5 {
		began := time.Now()
		c, err := p.a.carry(p.b.id, "")
		if err != nil {
			t.Fatalf("no new path: %v", err)
		}
		c.Close()
		quickest = min(quickest, time.Since(began))
	}
	if quickest > time.Second {
		t.Errorf("a new path takes %v", quickest)
	}
	ping, most := p.pings(t), 2*p.ping+5*time.Millisecond
	if ping > most {
		t.Errorf("a round trip takes %v, more than %v", ping, most)
	}
	t.Logf("a new path takes %v, a round trip %v (before: %v)", quickest, ping, p.ping)
}

// crowd keeps n connections of an address open that say nothing, and opens them anew, 25 a second,
// when they are cut. It returns when they are open for the first time.
func (h *testHub) crowd(t *testing.T, ip string, n int) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}
	again := time.NewTicker(time.Second / 25)
	var all, first sync.WaitGroup
	t.Cleanup(func() { cancel(); all.Wait(); again.Stop() })
	first.Add(n)
	for range n {
		all.Go(func() {
			once := sync.OnceFunc(first.Done)
			defer once()
			for ctx.Err() == nil {
				if c, err := from.DialContext(ctx, "tcp", h.address()); err == nil {
					once()
					stop := context.AfterFunc(ctx, func() { c.Close() })
					c.Read(make([]byte, 1))
					stop()
					c.Close()
				}
				select {
				case <-again.C:
				case <-ctx.Done():
				}
			}
		})
	}
	first.Wait()
}

func TestSilentConnectionsKeepNoMemberOut(t *testing.T) {
	appstest.Long(t)
	for _, tt := range []struct {
		name      string
		limits    Limits
		addresses int
		each      int
	}{
		{"twelve addresses and a large hub", Limits{}, 12, 256},
		{"four addresses and a small hub", Limits{Handshakes: 64, HandshakesPerSource: 32}, 4, 32},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if raced && tt.each > 64 {
				t.Skip("too slow with the race detector")
			}
			h := start(t, func(c *Config) { c.Limits, c.Metrics = tt.limits, "127.0.0.1:0" })
			p := newHonest(t, h)
			for i := range tt.addresses {
				h.crowd(t, fmt.Sprint("127.0.1.", i+1), tt.each)
			}
			p.works(t)
			if err := h.tryFrom("127.0.2.1", h.device("carol").config(tunnel.ControlProto)); err != nil {
				t.Errorf("a member at an address that the hub does not know: %v", err)
			}
			if h.metric(`ztm_hub_connections_refused_total{reason="handshakes"}`) == 0 {
				t.Error("the hub was not full")
			}
		})
	}
}

// hello begins a TLS connection with n bytes of a ClientHello of 60,000.
func hello(t testing.TB, h *testHub, n int) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", h.address())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	rest := append([]byte{1, 0, 60_000 >> 8, 60_000 & 0xff}, make([]byte, 60_000)...)
	var b []byte
	for len(b) < n {
		piece := rest[:min(len(rest), 4096)]
		rest = rest[len(piece):]
		b = append(append(b, 22, 3, 1, byte(len(piece)>>8), byte(len(piece))), piece...)
	}
	c.Write(b[:n]) // it may be reset before the end
	return c
}

func TestAHandshakeIsCutOffAtItsLimit(t *testing.T) {
	h := start(t)
	c := hello(t, h, handshake.MaxBytes+1)
	c.SetReadDeadline(time.Now().Add(tunnel.HandshakeTimeout / 2))
	if _, err := io.Copy(io.Discard, c); isTimeout(err) {
		t.Error("the hub waits for more")
	}
}

func TestAHandshakeTakesNoMoreMemoryThanIsReckoned(t *testing.T) {
	h := start(t, func(c *Config) {
		c.Limits.Handshakes, c.Limits.HandshakesPerSource = 1024, 1024
		c.Metrics = "127.0.0.1:0"
	})
	const n = 300
	before := heap()
	for range n {
		hello(t, h, handshake.MaxBytes-1)
	}
	eventually(t, "the hub has read all", func() bool { return heap() > before+n*handshake.MaxBytes/2 })
	each := (int64(heap()) - int64(before)) / n
	if each > limits.HandshakeSize {
		t.Errorf("a handshake takes %d bytes", each)
	}
	t.Logf("a handshake takes %d bytes", each)
}

// joining opens a connection of a device that wants to join, from an address, and asks nothing yet.
func (d *device) joining(ip string) *tls.Conn {
	d.hub.t.Helper()
	cert, err := identity.SelfSigned(d.key, time.Now())
	if err != nil {
		d.hub.t.Fatal(err)
	}
	from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}
	c, err := tls.DialWithDialer(&from, "tcp", d.hub.address(), d.verifier.ClientConfig(cert, identity.RoleHub, d.hub.started.ID, identity.JoinProto))
	if err != nil {
		d.hub.t.Fatal(err)
	}
	d.hub.t.Cleanup(func() { c.NetConn().Close() })
	return c
}

func TestDevicesThatAskNothingTakeNoPlaceOfThoseThatJoin(t *testing.T) {
	t.Parallel() // it waits, most of the time
	appstest.Long(t)
	h := start(t, keepCA, func(c *Config) { c.Limits.Joins, c.joinRate.Burst, c.joinRate.PerSecond = 4, 2, 2 })
	p := newHonest(t, h)
	var idle []net.Conn
	for _, ip := range []string{"127.0.0.1", "127.0.0.2"} {
		for range 8 {
			idle = append(idle, h.unjoined("eve").joining(ip))
		}
	}
	if err := h.unjoined("bob").join("laptop", h.token("bob", h.started.ID)); err != nil {
		t.Errorf("a device with a good token: %v", err)
	}
	p.works(t)
	for _, c := range idle {
		c.SetReadDeadline(time.Now().Add(timeout))
		if _, err := io.Copy(io.Discard, c); isTimeout(err) {
			t.Fatal("the hub keeps a connection on which nothing is asked")
		}
	}
}

func TestJoinsOfOneSourceLeaveRoomForOthers(t *testing.T) {
	h := start(t, func(c *Config) { c.Limits.Joins, c.Limits.JoinsPerSource = 4, 2 })
	root := h.device("root").online("root-ep") // which does not answer
	ask := func(ip string) *tls.Conn {
		d := h.unjoined("bob")
		proof, err := h.token("bob", root.id).Prove(publicKey(d.key), "laptop")
		if err != nil {
			t.Fatal(err)
		}
		c := d.joining(ip)
		writeJoin(t, c, mustJSON(t, tunnel.JoinRequest{Key: publicKey(d.key), Name: "laptop", Proof: proof}))
		return c
	}
	for range 2 {
		ask("127.0.0.2")
		root.next(tunnel.EventSign)
	}
	answer, err := tunnel.ReadHeader(ask("127.0.0.2"))
	if err != nil {
		t.Fatal(err)
	}
	wantRefusal(t, answer.Err(), 429, "too many devices join from this address")
	ask("127.0.0.3")
	if e := root.next(tunnel.EventSign); e.Sign == nil {
		t.Error("a device at another address was not let in")
	}
}

func writeJoin(t *testing.T, c net.Conn, request []byte) {
	t.Helper()
	err := tunnel.WriteHeader(c, tunnel.FieldMethod, "POST", tunnel.FieldPath, joinPath, tunnel.FieldRequest, base64.StdEncoding.EncodeToString(request))
	if err != nil {
		t.Fatal(err)
	}
}

// The log says why a joining device is refused, with what the device wrote. It must not fill the
// disk.
func TestRefusedDevicesDoNotFillTheLog(t *testing.T) {
	const n = 100
	var log appstest.Buffer
	h := start(t, keepCA, func(c *Config) {
		c.Log = slog.New(slog.NewTextHandler(&log, nil))
		c.Limits.JoinsPerSource = n
	})
	p := newHonest(t, h)
	before := len(log.String())
	for range n {
		c := h.unjoined("eve").joining("127.0.0.1")
		if err := tunnel.WriteHeader(c, ":"+strings.Repeat("\x00", 1900), ""); err != nil {
			t.Fatal(err)
		}
		if answer, err := tunnel.ReadHeader(c); err != nil || answer.Err() == nil {
			t.Fatalf("%v %v", answer, err)
		}
		c.Close()
	}
	written := len(log.String()) - before
	if written == 0 {
		t.Error("nothing is in the log")
	}
	if written > 500*n {
		t.Errorf("%d refused devices write %d bytes", n, written)
	}
	p.works(t)
}
