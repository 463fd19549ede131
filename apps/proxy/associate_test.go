package proxy

import (
	"bytes"
	"context"
	"encoding/hex"
	"io"
	"net"
	"testing"
	"time"

	"ztm/apps/appstest"
	"ztm/apps/proxy/dns/dnstest"
	"ztm/apps/proxy/socks"
)

// sayBack is a UDP target that says back what it gets, until the end of the test.
func sayBack(t *testing.T) string {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 65535)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			pc.WriteTo(append([]byte("you said "), buf[:n]...), from)
		}
	}()
	t.Cleanup(func() { pc.Close(); <-done })
	return pc.LocalAddr().String()
}

// datagramPair is a [pair] whose exit reaches a target by UDP, as dns.example.com:53 and 10.0.0.1:53.
func datagramPair(t *testing.T) (in *endpoint, address string) {
	t.Helper()
	in, _ = pair(t, Options{
		Resolver: dnstest.Names{"dns.example.com": "10.0.0.1"},
		Dial:     dialTo(map[string]string{"10.0.0.1:53": sayBack(t)}),
	}, "*.example.com", "10.0.0.0/8")
	return in, in.listen(t)
}

// openAssociation asks for an association, announcing an address and a port, ATYP before them, as hex. It returns the
// connection that holds the association and where it takes datagrams.
func openAssociation(t *testing.T, proxy, announced string) (net.Conn, *net.UDPAddr) {
	t.Helper()
	c := dialTCP(t, proxy)
	c.Write(unhex(t, "050100"+"050300"+announced))
	answer := make([]byte, 12)
	if _, err := io.ReadFull(c, answer); err != nil || !bytes.HasPrefix(answer, unhex(t, "0500050000017f000001")) {
		t.Fatalf("answer %x, %v", answer, err)
	}
	return c, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(answer[10])<<8 | int(answer[11])}
}

func udpSocket(t *testing.T, to *net.UDPAddr) *net.UDPConn {
	t.Helper()
	u, err := net.DialUDP("udp", nil, to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { u.Close() })
	u.SetDeadline(time.Now().Add(timeout))
	return u
}

// header53 is the header of a datagram to 10.0.0.1:53, in hex.
const header53 = "000000010a0000010035"

// unconnected is a socket that writes to one address all the same.
type unconnected struct {
	*net.UDPConn
	to *net.UDPAddr
}

func (u unconnected) Write(b []byte) (int, error) { return u.WriteToUDP(b, u.to) }

func said(t *testing.T, u io.ReadWriter, what string) {
	t.Helper()
	header := unhex(t, header53)
	if _, err := u.Write(append(bytes.Clone(header), what...)); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 65535)
	n, err := u.Read(got)
	if want := append(bytes.Clone(header), "you said "+what...); err != nil || !bytes.Equal(got[:n], want) {
		t.Fatalf("got %q, %v; want %q", got[:n], err, want)
	}
}

func TestUDPAssociate(t *testing.T) {
	in, proxy := datagramPair(t)
	c, relay := openAssociation(t, proxy, "01000000000000")
	u := udpSocket(t, relay)
	outsider := udpSocket(t, relay)

	byName := unhex(t, "000000030f"+hex.EncodeToString([]byte("dns.example.com"))+"0035")
	byAddress := unhex(t, header53)
	large := bytes.Repeat([]byte("x"), 9000)
	for _, tt := range []struct {
		name            string
		header, payload []byte
	}{
		{"by name", byName, []byte("hello")},
		{"by address", byAddress, []byte("hello")},
		{"empty", byAddress, nil},
		{"large", byName, large},
	} {
		for _, bad := range badDatagrams(t) {
			u.Write(bad)
		}
		u.Write(append(bytes.Clone(tt.header), tt.payload...))
		outsider.Write(append(bytes.Clone(byAddress), "outsider"...))
		got := make([]byte, 65535)
		n, err := u.Read(got)
		want := append(append(bytes.Clone(tt.header), "you said "...), tt.payload...)
		if err != nil || !bytes.Equal(got[:n], want) {
			t.Errorf("%s: got %d bytes %.60q, %v; want %d", tt.name, n, got[:n], err, len(want))
		}
	}
	c.Close()
	appstest.Eventually(t, "the end of the association", func() bool { return in.app.entrance.clients.Count() == 0 })
}

// badDatagrams are datagrams that have no answer.
func badDatagrams(t *testing.T) [][]byte {
	return [][]byte{
		nil, {0}, {0, 0, 0}, unhex(t, "00000001"), unhex(t, "000001010a0000010035"+"66"), unhex(t, "000000010a0000010000"+"66"),
		unhex(t, "000000010a000002"+"0035"+"66"), unhex(t, "0000000108080808"+"0035"+"66"), unhex(t, "00000003ff"),
	}
}

// malformed are datagrams that are not even of the protocol.
func malformed(t *testing.T) [][]byte {
	return [][]byte{{'x'}, {0, 0, 0}, unhex(t, "000001010a0000010035"+"66"), unhex(t, "000000010a0000010000"+"66"), unhex(t, "00000003ff")}
}

func TestAMalformedDatagramDoesNotTakeAnAssociation(t *testing.T) {
	_, proxy := datagramPair(t)
	_, relay := openAssociation(t, proxy, "01000000000000")
	outsider, owner := udpSocket(t, relay), udpSocket(t, relay)
	for _, bad := range malformed(t) {
		if _, err := outsider.Write(bad); err != nil {
			t.Fatal(err)
		}
	}
	said(t, owner, "mine") // loopback keeps the order: the outsider was heard first
}

func TestAnAssociationIsForTheAnnouncedPort(t *testing.T) {
	for name, announce := range map[string]string{"the address": "017f000001", "no address": "0100000000", "no IPv6 address": "0400000000000000000000000000000000"} {
		t.Run(name, func(t *testing.T) {
			_, proxy := datagramPair(t)
			socket, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
			if err != nil {
				t.Fatal(err)
			}
			defer socket.Close()
			socket.SetDeadline(time.Now().Add(timeout))
			port := socket.LocalAddr().(*net.UDPAddr).Port
			_, relay := openAssociation(t, proxy, announce+hex.EncodeToString([]byte{byte(port >> 8), byte(port)}))
			owner, outsider := unconnected{socket, relay}, udpSocket(t, relay)
			if _, err := outsider.Write(append(unhex(t, header53), "theirs"...)); err != nil {
				t.Fatal(err)
			}
			said(t, owner, "mine")
			outsider.SetReadDeadline(time.Now())
			if n, err := outsider.Read(make([]byte, 100)); err == nil {
				t.Errorf("the outsider got %d bytes", n)
			}
		})
	}
}

func TestAnAnnouncedAddressThatIsNotTheClientsSaysNothing(t *testing.T) {
	_, proxy := datagramPair(t)
	_, relay := openAssociation(t, proxy, "01c0a800010035")
	said(t, udpSocket(t, relay), "behind a translator")
}

// flowsOf returns how many flows of one endpoint another one has, those included that are not accepted yet.
func flowsOf(out, in *endpoint) int {
	return out.app.exit.CountOf(in.app.host.Mesh.Self().ID)
}

func TestOneAssociationDoesNotTakeTheLegsOfAnother(t *testing.T) {
	back := dialTo(map[string]string{"10.0.0.1:53": sayBack(t)})
	in, out := pair(t, Options{Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		if address == "10.0.0.1:53" {
			return back(ctx, network, address)
		}
		<-ctx.Done()
		return nil, ctx.Err()
	}}, "10.0.0.0/8")
	proxy := in.listen(t)
	c, greedy := openAssociation(t, proxy, "01000000000000")
	u := udpSocket(t, greedy)
	appstest.Eventually(t, "all legs to be taken", func() bool {
		for i := range socks.MaxLegs {
			u.Write(append(unhex(t, "000000010a01"+hex.EncodeToString([]byte{byte(i >> 8), byte(i)})+"0035"), 'x'))
		}
		return flowsOf(out, in) >= socks.MaxLegs
	})
	_, relay := openAssociation(t, proxy, "01000000000000")
	said(t, udpSocket(t, relay), "mine")
	c.Close()
}
