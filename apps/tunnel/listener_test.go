package tunnel

import (
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
)

// Who writes 0.0.0.0 means the addresses of IPv4.
func TestAllAddressesAreThoseOfTheVersionThatIsWritten(t *testing.T) {
	if probe, err := net.Listen("tcp6", "[::1]:0"); err != nil {
		t.Skip("no IPv6 here: ", err)
	} else {
		probe.Close()
	}
	for _, test := range []struct {
		host   string
		v4, v6 bool
	}{{"0.0.0.0", true, false}, {"*", true, true}, {"[::]", true, true}, {"127.0.0.1", true, false}, {"[::1]", false, true}} {
		for _, transport := range []string{TCP, UDP} {
			a, err := ParseAddress(test.host + ":0")
			if err != nil {
				t.Fatal(err)
			}
			l := newListener(transport, a)
			if err := l.open(); err != nil {
				t.Fatal(err)
			}
			bound := l.status().Address
			for host, want := range map[string]bool{"127.0.0.1": test.v4, "::1": test.v6} {
				if got := taken(transport, net.JoinHostPort(host, port(bound))); got != want {
					t.Errorf("%s %s listens on %s: %v, want %v", transport, a, host, got, want)
				}
			}
			l.close()
		}
	}
}

// taken reports whether somebody listens on an address.
func taken(transport, address string) bool {
	var c io.Closer
	var err error
	if transport == UDP {
		c, err = net.ListenPacket("udp", address)
	} else {
		c, err = net.Listen("tcp", address)
	}
	if err == nil {
		c.Close()
	}
	return errors.Is(err, syscall.EADDRINUSE)
}

func TestListenerThatWasClosedDoesNotOpenAgain(t *testing.T) {
	l := newListener(TCP, Address{Host: "127.0.0.1"})
	l.close()
	if err := l.open(); err == nil {
		t.Error("it opened")
	}
}
