package udp

import (
	"net/netip"
	"testing"
)

func FuzzParseLocal(f *testing.F) {
	for _, a := range []string{"127.0.0.2", "::1", "192.0.2.1"} {
		f.Add(formatLocal(netip.MustParseAddr(a)))
	}
	f.Add([]byte{1, 2, 3})
	f.Fuzz(func(t *testing.T, oob []byte) {
		a := parseLocal(oob)
		if again := parseLocal(formatLocal(a)); again != a {
			t.Errorf("%v came back as %v", a, again)
		}
	})
}
