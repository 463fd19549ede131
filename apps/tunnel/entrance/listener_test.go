package entrance

import (
	"net"
	"testing"

	"ztm/apps/appstest"
	"ztm/apps/tunnel/spec"
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
		for _, transport := range []string{spec.TCP, spec.UDP} {
			a, err := spec.ParseAddress(test.host + ":0")
			if err != nil {
				t.Fatal(err)
			}
			l := newListener(transport, a)
			if err := l.open(); err != nil {
				t.Fatal(err)
			}
			bound := l.status().Address
			for host, want := range map[string]bool{"127.0.0.1": test.v4, "::1": test.v6} {
				if got := appstest.Taken(transport, net.JoinHostPort(host, appstest.Port(bound))); got != want {
					t.Errorf("%s %s listens on %s: %v, want %v", transport, a, host, got, want)
				}
			}
			l.close()
		}
	}
}

func TestListenerThatWasClosedDoesNotOpenAgain(t *testing.T) {
	l := newListener(spec.TCP, spec.Address{Host: "127.0.0.1"})
	l.close()
	if err := l.open(); err == nil {
		t.Error("it opened")
	}
}
