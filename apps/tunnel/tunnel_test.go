package tunnel_test

import (
	"bytes"
	"io"
	"net"
	"os"
	"strings"
	"testing"

	"ztm/apps/appstest"
	"ztm/apps/tunnel/spec"
	"ztm/apps/tunnel/traffic"
	"ztm/apps/tunnel/tunneltest"
)

func TestMain(m *testing.M) { os.Exit(appstest.Run(m)) }

func TestConnectionReachesTheServiceBehindTheExit(t *testing.T) {
	var n appstest.Net
	a, b := tunneltest.Join(t, &n, "a", "alice"), tunneltest.Join(t, &n, "b", "alice")
	b.Offer(t, "tcp/web", tunneltest.Server(t, "web"))
	c := tunneltest.Dial(t, a.Listen(t, "tcp/web"))
	if got, err := tunneltest.ReadLine(c); got != "web" || err != nil {
		t.Fatalf("got %q, %v", got, err)
	}
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	go func() {
		c.Write(data)
		c.(*net.TCPConn).CloseWrite() // the echo must still arrive
	}()
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("the echo has %d bytes, %v; want the %d that were sent", len(got), err, len(data))
	}
	appstest.Eventually(t, "the flow is counted at both ends", func() bool {
		up, down := int64(len(data)), int64(len(data)+len("web\n"))
		want := traffic.Counts{Flows: 1, Up: up, Down: down}
		in, out := a.InboundStatus(t, "tcp/web").Stats, b.OutboundStatus(t, "tcp/web").Stats
		return in.Counts == want && out.Counts == want && len(in.Peers) == 1 && in.Peers[0].Counts == want &&
			out.Peers[0] == traffic.PeerCounts{ID: a.Self().ID, Counts: want}
	})
}

func TestServerMayEndItsDirectionFirst(t *testing.T) {
	var n appstest.Net
	a, b := tunneltest.Join(t, &n, "a", "alice"), tunneltest.Join(t, &n, "b", "alice")
	ln := tunneltest.ListenTCP(t, "127.0.0.1:0")
	received := make(chan string, 1)
	go func() {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		io.WriteString(c, "all I have\n")
		c.(*net.TCPConn).CloseWrite()
		rest, _ := io.ReadAll(c)
		received <- string(rest)
	}()
	b.Offer(t, "tcp/web", ln.Addr().String())
	c := tunneltest.Dial(t, a.Listen(t, "tcp/web"))
	if got, err := io.ReadAll(c); string(got) != "all I have\n" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	io.WriteString(c, "thank you")
	c.(*net.TCPConn).CloseWrite()
	if got := <-received; got != "thank you" {
		t.Errorf("the server got %q after its own end", got)
	}
}

func TestTunnelsSurviveARestart(t *testing.T) {
	var n appstest.Net
	a, b := tunneltest.Join(t, &n, "a", "alice"), tunneltest.Join(t, &n, "b", "alice")
	b.Offer(t, "tcp/web", tunneltest.Server(t, "web"))
	address := appstest.FreeAddress(t)
	a.MustCall(t, "POST", "/inbound/tcp/web", `{"listens":["`+address+`"]}`, nil)

	a.Stop()
	b.Stop()
	if c, err := net.Dial("tcp", address); err == nil {
		c.Close()
		t.Error("the listener outlived the app")
	}
	squatter := tunneltest.ListenTCP(t, address) // a listener that cannot open must not stop anything
	a.Run(t)
	b.Run(t)
	appstest.Eventually(t, "describe shows why it is not open", func() bool {
		l := a.InboundStatus(t, "tcp/web").Listeners[0]
		return !l.Open && strings.Contains(l.Error, "in use")
	})
	squatter.Close()
	appstest.Eventually(t, "the listener opens", func() bool { return a.InboundStatus(t, "tcp/web").Listeners[0].Open })
	tunneltest.WantGreeting(t, address, "web")
}

func TestASavedTunnelThatIsDamagedDoesNotStopTheOthers(t *testing.T) {
	var n appstest.Net
	b := tunneltest.Join(t, &n, "b", "alice")
	b.Offer(t, "tcp/good", tunneltest.Server(t, "good"))
	b.Stop()
	b.State.Save("outbound/tcp/empty", spec.Outbound{Key: spec.Key{Protocol: spec.TCP, Name: "empty"}})
	b.State.Save("outbound/tcp/odd", 7)
	b.Run(t)
	appstest.Eventually(t, "the good one is offered", func() bool { return len(b.Self().Offers) == 1 })
	if got := b.App.Status().Outbound; len(got) != 1 || got[0].Name != "good" {
		t.Errorf("loaded %v", got)
	}
	if !strings.Contains(b.Logged.String(), "outbound/tcp/odd") {
		t.Error("the log does not name the damaged tunnel")
	}
}
