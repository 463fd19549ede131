package tunnel_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"

	"ztm/apps/appstest"
	"ztm/apps/tunnel/tunneltest"
	"ztm/tunnel/answer"
)

func TestRateChangesWhileFlowsRun(t *testing.T) {
	var n appstest.Net
	a, b := tunneltest.Join(t, &n, "a", "alice"), tunneltest.Join(t, &n, "b", "alice")
	service := tunneltest.Server(t, "web")
	for _, end := range []string{"entrance", "exit"} {
		for _, direction := range []string{"rateUp", "rateDown"} {
			t.Run(end+" "+direction, func(t *testing.T) {
				limit := fmt.Sprintf("%q:\"1kB/s\"", direction) // at which a megabyte takes a quarter of an hour
				if end == "exit" {
					b.Offer(t, "tcp/web", service, limit)
				} else {
					b.Offer(t, "tcp/web", service)
				}
				address := appstest.FreeAddress(t)
				listen := fmt.Sprintf(`{"listens":[%q]`, address)
				if end == "entrance" {
					a.MustCall(t, "POST", "/inbound/tcp/web", listen+","+limit+"}", nil)
				} else {
					a.MustCall(t, "POST", "/inbound/tcp/web", listen+"}", nil)
				}
				c := tunneltest.Dial(t, address)
				if _, err := tunneltest.ReadLine(c); err != nil {
					t.Fatal(err)
				}
				data := bytes.Repeat([]byte("x"), 1<<20)
				go func() {
					c.Write(data)
					c.(*net.TCPConn).CloseWrite()
				}()
				received := make(chan int, 1)
				go func() {
					got, _ := io.ReadAll(c)
					received <- len(got)
				}()
				appstest.Eventually(t, "something passes", func() bool { return b.OutboundStatus(t, "tcp/web").Stats.Up > 0 })
				select {
				case <-received:
					t.Fatal("it was not held back")
				default:
				}
				b.Offer(t, "tcp/web", service)
				a.MustCall(t, "POST", "/inbound/tcp/web", listen+"}", nil)
				if got := <-received; got != len(data) {
					t.Errorf("%d bytes came back, want %d", got, len(data))
				}
				b.MustCall(t, "DELETE", "/outbound/tcp/web", nil, nil)
				a.MustCall(t, "DELETE", "/inbound/tcp/web", nil, nil)
			})
		}
	}
}

func TestConnectionsOverTheLimitAreReset(t *testing.T) {
	var n appstest.Net
	a, b := tunneltest.Join(t, &n, "a", "alice"), tunneltest.Join(t, &n, "b", "alice")
	service := tunneltest.Server(t, "web")
	b.Offer(t, "tcp/web", service, `"maxConns":2`)
	address := a.Listen(t, "tcp/web")
	var conns []net.Conn
	for range 2 {
		c := tunneltest.Dial(t, address)
		if _, err := tunneltest.ReadLine(c); err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	tunneltest.WantReset(t, address)
	appstest.Eventually(t, "the inbound says why", func() bool {
		return strings.Contains(a.InboundStatus(t, "tcp/web").Stats.LastError, "tunnel tcp/web has its limit of 2 connections")
	})
	if s := b.OutboundStatus(t, "tcp/web").Stats; s.Errors[answer.Limit] != 1 || s.Active != 2 {
		t.Errorf("the exit counted %+v", s)
	}
	b.Offer(t, "tcp/web", service, `"maxConns":1`) // cuts nobody
	for _, c := range conns {
		io.WriteString(c, "still here\n")
		if line, err := tunneltest.ReadLine(c); line != "still here" {
			t.Errorf("got %q, %v", line, err)
		}
	}
	b.Offer(t, "tcp/web", service)
	tunneltest.WantGreeting(t, address, "web")

	a.MustCall(t, "POST", "/inbound/tcp/web", fmt.Sprintf(`{"listens":["0",%q],"maxConns":2}`, appstest.FreeAddress(t)), nil)
	s := a.InboundStatus(t, "tcp/web")
	if got, err := tunneltest.Greeting(t, s.Listeners[1].Address); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("over the limit of the entrance: %q, %v", got, err)
	}
	conns[0].Close()
	appstest.Eventually(t, "a place is free", func() bool {
		got, _ := tunneltest.Greeting(t, s.Listeners[1].Address)
		return got == "web"
	})
}

func TestLimitedDatagramsAreDroppedAndCounted(t *testing.T) {
	appstest.Long(t)
	var n appstest.Net
	a, b := tunneltest.Join(t, &n, "a", "alice"), tunneltest.Join(t, &n, "b", "alice")
	b.Offer(t, "udp/echo", tunneltest.UdpServer(t, ""))
	c := tunneltest.DialUDP(t, a.Listen(t, "udp/echo", `"rateUp":"1kB/s"`))
	appstest.Eventually(t, "datagrams are dropped at the entrance", func() bool {
		c.Write(make([]byte, 1000))
		return a.InboundStatus(t, "udp/echo").Stats.Dropped > 0
	})
}

func TestPortRangesAreForwardedPortByPort(t *testing.T) {
	var n appstest.Net
	a, b := tunneltest.Join(t, &n, "a", "alice"), tunneltest.Join(t, &n, "b", "alice")
	first, entrance := appstest.FreePorts(t, 3), appstest.FreePorts(t, 3)
	for i := range 3 {
		tunneltest.Serve(t, tunneltest.ListenTCP(t, appstest.Loopback(first+i)), fmt.Sprintf("port %d", i))
	}
	b.Offer(t, "tcp/ftp", fmt.Sprintf("127.0.0.1:%d-%d", first, first+2))
	a.MustCall(t, "POST", "/inbound/tcp/ftp", fmt.Sprintf(`{"listens":["%d-%d"]}`, entrance, entrance+2), nil)
	for i := range 3 {
		tunneltest.WantGreeting(t, fmt.Sprintf("127.0.0.1:%d", entrance+i), fmt.Sprintf("port %d", i))
	}
	a.MustCall(t, "POST", "/inbound/tcp/ftp", fmt.Sprintf(`{"listens":["%d-%d"]}`, entrance+1, entrance+2), nil)
	tunneltest.WantReset(t, fmt.Sprintf("127.0.0.1:%d", entrance+1))
	appstest.Eventually(t, "the inbound explains", func() bool {
		return strings.Contains(a.InboundStatus(t, "tcp/ftp").Stats.LastError, "tunnel tcp/ftp has 3 ports at its exit and 2 at its entrance")
	})
}
