package direct

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"
)

// listening is the state of a TCP socket in the tables of the kernel, in which anybody could connect.
const listening = "0A"

// sockets returns the states of the sockets of a port, as ss would show them.
func sockets(t *testing.T, tables []string, port uint16) (states []string) {
	t.Helper()
	for _, table := range tables {
		b, err := os.ReadFile("/proc/self/net/" + table)
		if err != nil {
			t.Skip(err)
		}
		for line := range strings.Lines(string(b)) {
			f := strings.Fields(line) // number, local address, remote address, state
			if len(f) > 3 && strings.HasSuffix(f[1], fmt.Sprintf(":%04X", port)) {
				states = append(states, f[3])
			}
		}
	}
	return states
}

// The kernel is asked, as ss asks it: a round has a socket that does not listen, and leaves none.
func TestNoSocketIsLeftBetweenRounds(t *testing.T) {
	tcp, udp := []string{"tcp", "tcp6"}, []string{"udp", "udp6"}
	port, nobody := freePort(t), freePort(t)
	ctx, cancel := context.WithCancel(t.Context())
	over, began := make(chan error, 1), time.Now()
	go func() { // awaited below
		to := Candidate{Kind: LAN, To: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), nobody)}
		_, _, err := Dial(ctx, &Network{Dial: dial}, port, []Candidate{to}, func(context.Context, net.Conn) (io.Closer, error) { return nil, nil })
		over <- err
	}()
	var seen []string
	for len(seen) == 0 {
		select {
		case err := <-over:
			if time.Since(began) < maxDials*leastWait {
				t.Fatalf("the round has ended, and nobody was there: %v", err)
			}
			t.Skip("the round was over before this machine had looked")
		case <-time.After(time.Millisecond):
			seen = sockets(t, tcp, port)
		}
	}
	for _, state := range seen {
		if state == listening {
			t.Error("a port is open in a round")
		}
	}
	cancel()
	<-over
	if left := sockets(t, tcp, port); len(left) > 0 {
		t.Errorf("after a round there are sockets in the states %v", left)
	}

	s, err := OpenSocket()
	if err != nil {
		t.Fatal(err)
	}
	at := s.LocalAddr().(*net.UDPAddr).AddrPort().Port()
	if len(sockets(t, udp, at)) == 0 {
		t.Error("the tables of the kernel do not show the socket of a round for datagrams: the test shows nothing")
	}
	s.Close()
	if left := sockets(t, udp, at); len(left) > 0 {
		t.Error("a socket for datagrams is left")
	}
}
