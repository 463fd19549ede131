package tunnel_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"ztm/apps"
	"ztm/apps/appstest"
	"ztm/apps/balance"
	"ztm/apps/tunnel"
	"ztm/apps/tunnel/spec"
	"ztm/apps/tunnel/tunneltest"
	"ztm/apps/udp"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	"ztm/tunnel/pause"
)

func TestDatagramsArriveWhole(t *testing.T) {
	var n appstest.Net
	a, b := tunneltest.Join(t, &n, "a", "alice"), tunneltest.Join(t, &n, "b", "alice")
	b.Offer(t, "udp/echo", tunneltest.UdpServer(t, ""))
	c := tunneltest.DialUDP(t, a.Listen(t, "udp/echo"))
	for _, size := range []int{1, 0, 1420, 16385, apps.MaxDatagram} {
		p := bytes.Repeat([]byte{byte(size)}, size)
		tunneltest.ExchangeUntil(t, c, p, func(got []byte) bool { return bytes.Equal(got, p) })
	}
	appstest.Eventually(t, "the entrance counts one flow", func() bool {
		s := a.InboundStatus(t, "udp/echo").Stats
		return s.Flows == 1 && s.Active == 1 && s.Up >= apps.MaxDatagram && s.Up == s.Down
	})
}

func TestEveryUDPClientHasItsOwnFlow(t *testing.T) {
	var n appstest.Net
	a, b := tunneltest.Join(t, &n, "a", "alice"), tunneltest.Join(t, &n, "b", "alice")
	b.Offer(t, "udp/echo", tunneltest.UdpServer(t, "re: "))
	address := a.Listen(t, "udp/echo")
	var clients sync.WaitGroup
	for i := range 20 {
		clients.Go(func() {
			c := tunneltest.DialUDP(t, address)
			for j := range 10 {
				want := fmt.Sprintf("re: %d.%d", i, j)
				tunneltest.ExchangeUntil(t, c, []byte(want[4:]), func(got []byte) bool {
					if !strings.HasPrefix(string(got), fmt.Sprintf("re: %d.", i)) {
						t.Errorf("client %d got %q", i, got)
					}
					return string(got) == want
				})
			}
		})
	}
	clients.Wait()
	if s := a.InboundStatus(t, "udp/echo").Stats; s.Flows != 20 {
		t.Errorf("%d flows for 20 clients", s.Flows)
	}
}

// A stream of datagrams as WireGuard sends them: what arrives is in order, and what is lost is
// counted.
func TestDatagramsAreNotReordered(t *testing.T) {
	var n appstest.Net
	a, b := tunneltest.Join(t, &n, "a", "alice"), tunneltest.Join(t, &n, "b", "alice")
	sink, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer sink.Close()
	b.Offer(t, "udp/wg", sink.LocalAddr().String())
	c := tunneltest.DialUDP(t, a.Listen(t, "udp/wg"))
	const count = 5000
	go func() {
		p := make([]byte, 1420)
		for i := range count {
			binary.BigEndian.PutUint32(p, uint32(i+1))
			c.Write(p)
		}
		binary.BigEndian.PutUint32(p, count+1)
		for t.Context().Err() == nil { // until the test has seen one of these
			c.Write(p)
			pause.For(t.Context(), time.Millisecond)
		}
	}()
	buf := make([]byte, udp.MaxPacket)
	arrived := 0
	for last := uint32(0); last <= count; arrived++ {
		sink.SetReadDeadline(time.Now().Add(tunneltest.Timeout))
		n, _, err := sink.ReadFrom(buf)
		if err != nil || n != 1420 {
			t.Fatalf("after %d: %d bytes, %v", last, n, err)
		}
		if i := binary.BigEndian.Uint32(buf); i < last || i == last && i <= count {
			t.Fatalf("%d came after %d", i, last)
		} else {
			last = i
		}
	}
	t.Logf("%d of %d arrived", arrived, count)
}

func TestIdleFlowOfDatagramsEnds(t *testing.T) {
	appstest.Long(t)
	var n appstest.Net
	a, b := tunneltest.Join(t, &n, "a", "alice"), tunneltest.Join(t, &n, "b", "alice")
	b.Offer(t, "udp/echo", tunneltest.UdpServer(t, ""))
	c := tunneltest.DialUDP(t, a.Listen(t, "udp/echo", `"idleTimeout":"1s"`))
	tunneltest.Exchange(t, c, []byte("x"))
	appstest.Eventually(t, "both ends have forgotten the client", func() bool {
		in, out := a.InboundStatus(t, "udp/echo"), b.OutboundStatus(t, "udp/echo")
		return in.Stats.Active == 0 && out.Stats.Active == 0 && out.Health[0].Active == 0
	})
	tunneltest.Exchange(t, c, []byte("y")) // and find it again
}

func TestDatagramsFindAnotherTargetWhenOneRefuses(t *testing.T) {
	var n appstest.Net
	a, b := tunneltest.Join(t, &n, "a", "alice"), tunneltest.Join(t, &n, "b", "alice")
	gone, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := gone.LocalAddr().String()
	gone.Close()
	b.Offer(t, "udp/echo", dead+","+tunneltest.UdpServer(t, "live "))
	address := a.Listen(t, "udp/echo")
	for range 3 {
		if got := tunneltest.Exchange(t, tunneltest.DialUDP(t, address), []byte("x")); string(got) != "live x" {
			t.Errorf("got %q", got)
		}
	}
	appstest.Eventually(t, "the dead target is marked", func() bool { return b.OutboundStatus(t, "udp/echo").Health[0].State == balance.Down })
}

// TestAClientOfDatagramsGoesOnAtAnotherExit: it keeps its socket, and the exit that it had is gone.
func TestAClientOfDatagramsGoesOnAtAnotherExit(t *testing.T) {
	var n appstest.Net
	a := tunneltest.Join(t, &n, "a", "alice")
	exits := map[string]*tunneltest.Endpoint{}
	for _, name := range []string{"b", "c"} {
		exits[name] = tunneltest.Join(t, &n, name, "alice")
		exits[name].Offer(t, "udp/echo", tunneltest.UdpServer(t, name+" "))
	}
	c := tunneltest.DialUDP(t, a.Listen(t, "udp/echo"))
	first := string(tunneltest.Exchange(t, c, []byte("x")))
	exits[first[:1]].SetOnline(false)
	other := map[string]string{"b x": "c x", "c x": "b x"}[first]
	tunneltest.ExchangeUntil(t, c, []byte("x"), func(got []byte) bool { return string(got) == other })
}

func TestDatagramsObeyTheSameAccessAsConnections(t *testing.T) {
	var n appstest.Net
	a, b := tunneltest.Join(t, &n, "a", "alice"), tunneltest.Join(t, &n, "b", "bob")
	service := tunneltest.UdpServer(t, "")
	b.Offer(t, "udp/echo", service)
	address := a.Listen(t, "udp/echo")
	c := tunneltest.DialUDP(t, address)
	c.Write([]byte("x"))
	appstest.Eventually(t, "the refusal is noted", func() bool {
		return strings.Contains(a.InboundStatus(t, "udp/echo").Stats.LastError, "ask the owner of b")
	})
	b.Offer(t, "udp/echo", service, `"users":["alice"]`)
	tunneltest.Exchange(t, c, []byte("x"))
	b.Offer(t, "udp/echo", service)
	appstest.Eventually(t, "the flow is cut", func() bool {
		return a.InboundStatus(t, "udp/echo").Stats.Active == 0 && b.OutboundStatus(t, "udp/echo").Stats.Active == 0
	})
}

func TestClosingAnInboundEndsItsDatagramFlows(t *testing.T) {
	var n appstest.Net
	a, b := tunneltest.Join(t, &n, "a", "alice"), tunneltest.Join(t, &n, "b", "alice")
	b.Offer(t, "udp/echo", tunneltest.UdpServer(t, ""))
	tunneltest.Exchange(t, tunneltest.DialUDP(t, a.Listen(t, "udp/echo")), []byte("x"))
	a.MustCall(t, "DELETE", "/inbound/udp/echo", nil, nil)
	appstest.Eventually(t, "the exit sees the end", func() bool { return b.OutboundStatus(t, "udp/echo").Stats.Active == 0 })
}

// crowdedMesh has no room for a flow when it is first asked for one, as a session with a full table
// of streams.
type crowdedMesh struct {
	apps.Mesh
	mu    sync.Mutex
	asked map[string]int // by client
}

func (m *crowdedMesh) OpenDatagrams(ctx context.Context, to identity.ID, path string, q url.Values) (net.Conn, error) {
	m.mu.Lock()
	m.asked[q.Get(spec.ClientParam)]++
	first := m.asked[q.Get(spec.ClientParam)] == 1
	m.mu.Unlock()
	if first {
		return nil, answer.Errorf(answer.Limit, "no room")
	}
	return m.Mesh.OpenDatagrams(ctx, to, path, q)
}

func (m *crowdedMesh) clients() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.asked)
}

func TestFirstDatagramsOfACrowdAreNotLost(t *testing.T) {
	var n appstest.Net
	a, b := tunneltest.Join(t, &n, "a", "alice"), tunneltest.Join(t, &n, "b", "alice")
	b.Offer(t, "udp/echo", tunneltest.UdpServer(t, "re: "))
	a.Stop()
	m := &crowdedMesh{Mesh: a.Host, asked: map[string]int{}}
	a.App, a.Stop = nil, nil
	app, _ := a.Start(t, spec.AppName, func(h apps.Host) apps.App {
		h.Mesh = m
		return tunnel.New(h)
	})
	a.App = app.(*tunnel.App)
	address := a.Listen(t, "udp/echo")
	var clients []net.Conn
	for i := range 300 {
		c := tunneltest.DialUDP(t, address)
		clients = append(clients, c)
		if _, err := fmt.Fprint(c, i); err != nil { // once
			t.Fatal(err)
		}
		if i%50 == 49 { // the system's buffer is not what is tested
			appstest.Eventually(t, "the port has received them", func() bool { return m.clients() == i+1 })
		}
	}
	for i, c := range clients {
		buf := make([]byte, 64)
		c.SetReadDeadline(time.Now().Add(tunneltest.Timeout))
		if got, err := c.Read(buf); string(buf[:got]) != fmt.Sprint("re: ", i) || err != nil {
			t.Fatalf("client %d got %q, %v", i, buf[:got], err)
		}
	}
}
