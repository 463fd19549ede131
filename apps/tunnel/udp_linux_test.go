package tunnel_test

import (
	"bytes"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"ztm/apps/appstest"
	"ztm/apps/tunnel/tunneltest"
	"ztm/apps/udp"
)

// A client takes answers from nobody but the address to which it wrote.
func TestAnswersLeaveFromTheAddressThatTheClientWroteTo(t *testing.T) {
	var n appstest.Net
	a, b := tunneltest.Join(t, &n, "a", "alice"), tunneltest.Join(t, &n, "b", "alice")
	b.Offer(t, "udp/echo", tunneltest.UdpServer(t, "re: "))
	v4 := []string{"127.0.0.1", "127.0.0.2", "127.1.2.3"}
	all := v4
	if probe, err := net.ListenPacket("udp6", "[::1]:0"); err == nil {
		probe.Close()
		all = append(slices.Clip(v4), "::1")
	}
	for listen, hosts := range map[string][]string{"0.0.0.0": v4, "*": all, "[::]": all} {
		t.Run(listen, func(t *testing.T) {
			port := appstest.Port(appstest.FreeAddress(t))
			a.MustCall(t, "POST", "/inbound/udp/echo", `{"listens":["`+listen+":"+port+`"]}`, nil)
			for _, host := range hosts {
				c := tunneltest.DialUDP(t, net.JoinHostPort(host, port))
				if got := tunneltest.Exchange(t, c, []byte(host)); string(got) != "re: "+host {
					t.Errorf("%s answers %q", host, got)
				}
			}
		})
	}
}

func TestOneClientMayWriteToTwoAddresses(t *testing.T) {
	var n appstest.Net
	a, b := tunneltest.Join(t, &n, "a", "alice"), tunneltest.Join(t, &n, "b", "alice")
	b.Offer(t, "udp/echo", tunneltest.UdpServer(t, ""))
	port := appstest.Port(appstest.FreeAddress(t))
	a.MustCall(t, "POST", "/inbound/udp/echo", `{"listens":["*:`+port+`"]}`, nil)
	client, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	waiting := map[netip.AddrPort]bool{}
	for _, host := range []string{"127.0.0.2", "127.0.0.3"} {
		to := netip.MustParseAddrPort(host + ":" + port)
		waiting[to] = true
		if _, err := client.WriteToUDPAddrPort([]byte(host), to); err != nil {
			t.Fatal(err)
		}
	}
	client.SetReadDeadline(time.Now().Add(tunneltest.Timeout))
	buf := make([]byte, udp.MaxPacket)
	for len(waiting) > 0 {
		n, from, err := client.ReadFromUDPAddrPort(buf)
		if err != nil {
			t.Fatalf("waiting for %v: %v", waiting, err)
		}
		if !waiting[from] || !bytes.Equal(buf[:n], []byte(from.Addr().String())) {
			t.Errorf("%v answers %q", from, buf[:n])
		}
		delete(waiting, from)
	}
	if s := a.InboundStatus(t, "udp/echo").Stats; s.Flows != 2 {
		t.Errorf("%d flows, want one for each address", s.Flows)
	}
}
