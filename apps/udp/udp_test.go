package udp_test

import (
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"ztm/apps/appstest"
	"ztm/apps/udp"
)

func TestMain(m *testing.M) { os.Exit(appstest.Run(m)) }

// A client takes answers from nobody but the address to which it wrote.
func TestAnswersLeaveFromTheAddressThatTheClientWroteTo(t *testing.T) {
	for _, tt := range []struct {
		network, listen string
		clients         []string
		linux           bool // the system has to tell
	}{
		{"udp4", "127.0.0.1:0", []string{"127.0.0.1"}, false},
		{"udp4", "0.0.0.0:0", []string{"127.0.0.1", "127.0.0.2", "127.1.2.3"}, true},
		{"udp", ":0", []string{"127.0.0.1", "127.0.0.2", "::1"}, true},
		{"udp", "[::]:0", []string{"127.0.0.2", "::1"}, true},
		{"udp6", "[::]:0", []string{"::1"}, true},
	} {
		t.Run(tt.network+" "+tt.listen, func(t *testing.T) {
			if tt.linux && runtime.GOOS != "linux" {
				t.Skip("the system picks the address here")
			}
			s, err := udp.Listen(t.Context(), tt.network, tt.listen)
			if err != nil {
				t.Skip(err) // no IPv6
			}
			defer s.Close()
			_, port, _ := net.SplitHostPort(s.LocalAddr().String())
			for _, host := range tt.clients {
				answered(t, s, net.JoinHostPort(host, port))
			}
		})
	}
}

// answered writes to a socket at one of its addresses and wants an answer from there: a connected
// socket takes no other.
func answered(t *testing.T, s *udp.Socket, address string) {
	t.Helper()
	c, err := net.Dial("udp", address)
	if err != nil {
		t.Skip(err) // no IPv6
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(appstest.Timeout))
	s.SetDeadline(time.Now().Add(appstest.Timeout))
	if _, err := c.Write([]byte("who are you")); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 100)
	_, path, err := s.Receive(b)
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Server(path).String(); got != address {
		t.Errorf("the client wrote to %s, it says, not to %s", got, address)
	}
	if err := s.To(path)([]byte(address)); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(b); err != nil || string(b[:n]) != address {
		t.Errorf("%s answers %q, %v", address, b[:n], err)
	}
}

func TestWhatCannotBeListenedOnIsAnError(t *testing.T) {
	for _, address := range []string{"", "127.0.0.1", "127.0.0.1:99999", "192.0.2.1:0"} {
		if s, err := udp.Listen(t.Context(), "udp", address); err == nil {
			s.Close()
			t.Errorf("listens on %q", address)
		}
	}
}
