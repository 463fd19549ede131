package tunneltest

import (
	"net"
	"testing"
	"time"

	"ztm/apps"
	"ztm/apps/reach"
)

// UdpServer is a UDP server that answers each datagram with its name and the datagram. It returns
// its address.
func UdpServer(t *testing.T, name string) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	Echo(t, conn, name)
	return conn.LocalAddr().String()
}

// Echo answers each datagram with a name and the datagram.
func Echo(t *testing.T, conn net.PacketConn, name string) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, apps.MaxDatagram)
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

// DialUDP makes a UDP client.
func DialUDP(t *testing.T, address string) net.Conn {
	t.Helper()
	c, err := net.Dial("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// Exchange sends a datagram, again and again, until an answer comes.
func Exchange(t *testing.T, c net.Conn, p []byte) []byte {
	t.Helper()
	return ExchangeUntil(t, c, p, func([]byte) bool { return true })
}

// ExchangeUntil is exchange until the right answer comes: on a slow machine, others may still be
// under way.
func ExchangeUntil(t *testing.T, c net.Conn, p []byte, right func([]byte) bool) []byte {
	t.Helper()
	buf := make([]byte, apps.MaxDatagram)
	for deadline := time.Now().Add(Timeout); time.Now().Before(deadline); {
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
