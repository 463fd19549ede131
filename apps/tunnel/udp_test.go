package tunnel

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ztm/apps"
	"ztm/apps/appstest"
	"ztm/apps/balance"
	"ztm/apps/listen"
	"ztm/apps/reach"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
)

// udpServer is a UDP server that answers each datagram with its name and the datagram. It returns its address.
func udpServer(t *testing.T, name string) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	echo(t, conn, name)
	return conn.LocalAddr().String()
}

func echo(t *testing.T, conn net.PacketConn, name string) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, maxPacket)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			conn.WriteTo(append([]byte(name), buf[:n]...), from)
		}
	}()
	t.Cleanup(func() { conn.Close(); <-done })
}

func dialUDP(t *testing.T, address string) net.Conn {
	t.Helper()
	c, err := net.Dial("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// exchange sends a datagram, again and again, until an answer comes.
func exchange(t *testing.T, c net.Conn, p []byte) []byte {
	t.Helper()
	return exchangeUntil(t, c, p, func([]byte) bool { return true })
}

// exchangeUntil is exchange until the right answer comes: on a slow machine, others may still be under way.
func exchangeUntil(t *testing.T, c net.Conn, p []byte, right func([]byte) bool) []byte {
	t.Helper()
	buf := make([]byte, maxPacket)
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if _, err := c.Write(p); err != nil && !reach.IsRefused(err) {
			t.Fatal(err)
		}
		c.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
		for {
			n, err := c.Read(buf)
			if err != nil {
				break
			}
			if right(buf[:n]) {
				return buf[:n]
			}
		}
	}
	t.Fatal("no answer came")
	return nil
}

func TestDatagramsArriveWhole(t *testing.T) {
	var n appstest.Net
	a, b := join(t, &n, "a", "alice"), join(t, &n, "b", "alice")
	b.offer(t, "udp/echo", udpServer(t, ""))
	c := dialUDP(t, a.listen(t, "udp/echo"))
	for _, size := range []int{1, 0, 1420, 16385, apps.MaxDatagram} {
		p := bytes.Repeat([]byte{byte(size)}, size)
		exchangeUntil(t, c, p, func(got []byte) bool { return bytes.Equal(got, p) })
	}
	appstest.Eventually(t, "the entrance counts one flow", func() bool {
		s := a.inboundStatus(t, "udp/echo").Stats
		return s.Flows == 1 && s.Active == 1 && s.Up >= apps.MaxDatagram && s.Up == s.Down
	})
}

func TestEveryUDPClientHasItsOwnFlow(t *testing.T) {
	var n appstest.Net
	a, b := join(t, &n, "a", "alice"), join(t, &n, "b", "alice")
	b.offer(t, "udp/echo", udpServer(t, "re: "))
	address := a.listen(t, "udp/echo")
	var clients sync.WaitGroup
	for i := range 20 {
		clients.Go(func() {
			c := dialUDP(t, address)
			for j := range 10 {
				want := fmt.Sprintf("re: %d.%d", i, j)
				exchangeUntil(t, c, []byte(want[4:]), func(got []byte) bool {
					if !strings.HasPrefix(string(got), fmt.Sprintf("re: %d.", i)) {
						t.Errorf("client %d got %q", i, got)
					}
					return string(got) == want
				})
			}
		})
	}
	clients.Wait()
	if s := a.inboundStatus(t, "udp/echo").Stats; s.Flows != 20 {
		t.Errorf("%d flows for 20 clients", s.Flows)
	}
}

// A stream of datagrams as WireGuard sends them: what arrives is in order, and what is lost is counted.
func TestDatagramsAreNotReordered(t *testing.T) {
	var n appstest.Net
	a, b := join(t, &n, "a", "alice"), join(t, &n, "b", "alice")
	sink, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer sink.Close()
	b.offer(t, "udp/wg", sink.LocalAddr().String())
	c := dialUDP(t, a.listen(t, "udp/wg"))
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
			listen.Wait(t.Context(), time.Millisecond, nil)
		}
	}()
	buf := make([]byte, maxPacket)
	arrived := 0
	for last := uint32(0); last <= count; arrived++ {
		sink.SetReadDeadline(time.Now().Add(patience))
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
	var n appstest.Net
	a, b := join(t, &n, "a", "alice"), join(t, &n, "b", "alice")
	b.offer(t, "udp/echo", udpServer(t, ""))
	c := dialUDP(t, a.listen(t, "udp/echo", `"idleTimeout":"1s"`))
	exchange(t, c, []byte("x"))
	appstest.Eventually(t, "both ends have forgotten the client", func() bool {
		in, out := a.inboundStatus(t, "udp/echo"), b.outboundStatus(t, "udp/echo")
		return in.Stats.Active == 0 && out.Stats.Active == 0 && out.Health[0].Active == 0
	})
	exchange(t, c, []byte("y")) // and find it again
}

func TestDatagramsFindAnotherTargetWhenOneRefuses(t *testing.T) {
	var n appstest.Net
	a, b := join(t, &n, "a", "alice"), join(t, &n, "b", "alice")
	gone, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := gone.LocalAddr().String()
	gone.Close()
	b.offer(t, "udp/echo", dead+","+udpServer(t, "live "))
	address := a.listen(t, "udp/echo")
	for range 3 {
		if got := exchange(t, dialUDP(t, address), []byte("x")); string(got) != "live x" {
			t.Errorf("got %q", got)
		}
	}
	appstest.Eventually(t, "the dead target is marked", func() bool { return b.outboundStatus(t, "udp/echo").Health[0].State == balance.Down })
}

func TestDatagramsObeyTheSameAccessAsConnections(t *testing.T) {
	var n appstest.Net
	a, b := join(t, &n, "a", "alice"), join(t, &n, "b", "bob")
	service := udpServer(t, "")
	b.offer(t, "udp/echo", service)
	address := a.listen(t, "udp/echo")
	c := dialUDP(t, address)
	c.Write([]byte("x"))
	appstest.Eventually(t, "the refusal is noted", func() bool {
		return strings.Contains(a.inboundStatus(t, "udp/echo").Stats.LastError, "endpoint b does not allow user alice to use tunnel udp/echo")
	})
	b.offer(t, "udp/echo", service, `"users":["alice"]`)
	exchange(t, c, []byte("x"))
	b.offer(t, "udp/echo", service)
	appstest.Eventually(t, "the flow is cut", func() bool {
		return a.inboundStatus(t, "udp/echo").Stats.Active == 0 && b.outboundStatus(t, "udp/echo").Stats.Active == 0
	})
}

func TestClosingAnInboundEndsItsDatagramFlows(t *testing.T) {
	var n appstest.Net
	a, b := join(t, &n, "a", "alice"), join(t, &n, "b", "alice")
	b.offer(t, "udp/echo", udpServer(t, ""))
	exchange(t, dialUDP(t, a.listen(t, "udp/echo")), []byte("x"))
	a.mustCall(t, "DELETE", "/inbound/udp/echo", nil, nil)
	appstest.Eventually(t, "the exit sees the end", func() bool { return b.outboundStatus(t, "udp/echo").Stats.Active == 0 })
}

func TestQueueDropsTheOldest(t *testing.T) {
	tests := []struct {
		name    string
		put     int // datagrams, numbered from 0
		size    int
		others  int64 // bytes in other queues of the tunnel
		want    int   // how many of the last wait
		dropped int64
	}{
		{"few", 3, 10, 0, 3, 0},
		{"too many", queueDatagrams + 5, 10, 0, queueDatagrams, 5},
		{"too big", 10, queueBytes / 4, 0, 4, 6},
		{"the tunnel is full", 3, 10, tunnelQueueBytes - 10, 1, 2},
		{"the others have it all", 3, 10, tunnelQueueBytes, 0, 3},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var total, dropped atomic.Int64
			total.Store(test.others)
			q := newQueue(&total, &dropped)
			for i := range test.put {
				p := make([]byte, test.size)
				binary.BigEndian.PutUint32(p, uint32(i))
				q.put(p)
			}
			if dropped.Load() != test.dropped {
				t.Errorf("dropped %d, want %d", dropped.Load(), test.dropped)
			}
			for i := range test.want {
				p, _ := q.get()
				if got := int(binary.BigEndian.Uint32(p)); got != test.put-test.want+i {
					t.Fatalf("got number %d, want %d", got, test.put-test.want+i)
				}
				q.release(p)
			}
			if total.Load() != test.others {
				t.Errorf("%d bytes are still counted", total.Load()-test.others)
			}
			q.put([]byte("last"))
			q.close()
			if _, ok := q.get(); ok || total.Load() != test.others {
				t.Error("the queue goes on after its close")
			}
		})
	}
}

// crowdedMesh has no room for a flow when it is first asked for one, as a session with a full table of streams.
type crowdedMesh struct {
	apps.Mesh
	mu    sync.Mutex
	asked map[string]int // by client
}

func (m *crowdedMesh) OpenDatagrams(ctx context.Context, to identity.ID, path string, q url.Values) (net.Conn, error) {
	m.mu.Lock()
	m.asked[q.Get(clientParam)]++
	first := m.asked[q.Get(clientParam)] == 1
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
	a, b := join(t, &n, "a", "alice"), join(t, &n, "b", "alice")
	b.offer(t, "udp/echo", udpServer(t, "re: "))
	a.stop()
	m := &crowdedMesh{Mesh: a.Host, asked: map[string]int{}}
	a.app, a.stop = nil, nil
	app, _ := a.Start(t, appName, func(h apps.Host) apps.App {
		h.Mesh = m
		return New(h)
	})
	a.app = app.(*App)
	address := a.listen(t, "udp/echo")
	var clients []net.Conn
	for i := range 300 {
		c := dialUDP(t, address)
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
		c.SetReadDeadline(time.Now().Add(patience))
		if got, err := c.Read(buf); string(buf[:got]) != fmt.Sprint("re: ", i) || err != nil {
			t.Fatalf("client %d got %q, %v", i, buf[:got], err)
		}
	}
}
