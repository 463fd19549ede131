//go:build unix

package tunnel_test

import (
	"io"
	"net"
	"testing"

	"golang.org/x/sys/unix"

	"ztm/apps/appstest"
	"ztm/apps/tunnel/tunneltest"
)

// sendUrgent sends one byte as urgent.
func sendUrgent(t *testing.T, c net.Conn, b byte) {
	t.Helper()
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var sendErr error
	err = raw.Write(func(fd uintptr) bool {
		sendErr = unix.Sendto(int(fd), []byte{b}, unix.MSG_OOB, nil)
		return sendErr != unix.EAGAIN
	})
	if err != nil || sendErr != nil {
		t.Fatal(err, sendErr)
	}
}

// Telnet and FTP send an interrupt that way. Outside of the stream only one such byte is kept, and
// none of them is carried.
func TestUrgentBytesArriveInTheirPlace(t *testing.T) {
	var n appstest.Net
	a, b := tunneltest.Join(t, &n, "a", "alice"), tunneltest.Join(t, &n, "b", "alice")
	ln := tunneltest.ListenTCP(t, "127.0.0.1:0")
	b.Offer(t, "tcp/telnet", ln.Addr().String())
	client := tunneltest.Dial(t, a.Listen(t, "tcp/telnet"))
	io.WriteString(client, "a")
	server, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	for _, from := range []net.Conn{client, server} {
		sendUrgent(t, from, 'b')
		io.WriteString(from, "c\n")
	}
	for _, end := range []struct {
		c    net.Conn
		want string
	}{{server, "abc"}, {client, "bc"}} {
		if got, err := tunneltest.ReadLine(end.c); got != end.want || err != nil {
			t.Errorf("got %q, %v, want %q", got, err, end.want)
		}
	}
}
