//go:build linux

package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"testing"

	"ztm/scripts/netns"
)

// world is a little internet of network namespaces:
//
//	a 10.1.0.2 ── nat-a 10.1.0.1 / 203.0.113.2 ── public 203.0.113.1 │ 198.51.100.1
//	b 10.2.0.2 ── nat-b 10.2.0.1 / 203.0.113.6 ── public 203.0.113.5 │   (the hub)
//
// The agents live in a and b, which have private addresses. Their routers let connections out with their own address in
// the place of the private one, and let nothing in.
type world struct {
	*netns.Net
	t testing.TB
}

// hubIP is where the hub is found in a world.
const hubIP = "198.51.100.1"

// newWorld sets up a world that ends with the test. It needs root.
func newWorld(t testing.TB) *world {
	t.Helper()
	if os.Geteuid() != 0 {
		missing(t, "network namespaces need root")
	}
	program(t, "ip", "iproute2")
	program(t, "nft", "nftables")
	w := &world{netns.New("ze", strconv.FormatUint(rand.Uint64()>>40, 36)), t}
	t.Cleanup(w.end)
	for _, place := range []string{"public", "nat-a", "nat-b", "a", "b"} {
		w.Add(place)
	}
	w.IP("public", "addr add "+hubIP+"/32 dev lo")
	w.IP("public", "route add unreachable default")
	w.Forward("public")
	for i, side := range []string{"a", "b"} {
		inner, outer := fmt.Sprintf("10.%d.0.", i+1), fmt.Sprintf("203.0.113.%%d/30")
		w.Link("public", "nat-"+side, fmt.Sprintf(outer, 4*i+1), fmt.Sprintf(outer, 4*i+2))
		w.Link("nat-"+side, side, inner+"1/24", inner+"2/24")
		w.IP("nat-"+side, fmt.Sprintf("route add default via 203.0.113.%d", 4*i+1))
		w.IP(side, "route add default via "+inner+"1")
		w.Forward("nat-" + side)
		w.Nft("nat-"+side, `table ip nat {
			chain out { type nat hook postrouting priority srcnat; oifname "public" masquerade; }
			chain in { type filter hook input priority filter; ct state established,related accept; iifname "public" drop; }
			chain through { type filter hook forward priority filter; ct state established,related accept; iifname "public" drop; }
		}`)
	}
	w.check()
	return w
}

func (w *world) end() {
	if err := w.End(); err != nil {
		w.t.Error(err)
	}
}

// check fails the test if a step failed.
func (w *world) check() {
	w.t.Helper()
	if err := w.Err(); err != nil {
		w.t.Fatal(err)
	}
}

// reaches reports whether a program at a place gets an answer from an IP address.
func (w *world) reaches(place, ip string) bool {
	words := append(w.In(place), program(w.t, "ping", "iputils-ping"), "-c", "1", "-W", "1", ip)
	return exec.Command(words[0], words[1:]...).Run() == nil
}

// cut drops everything to and from the hub's port.
func (w *world) cut(port int) {
	w.t.Helper()
	w.Nft("public", fmt.Sprintf(`table ip cut {
		chain in { type filter hook input priority filter; tcp dport %d drop; }
		chain out { type filter hook output priority filter; tcp sport %d drop; }
	}`, port, port))
	w.check()
}

// mend undoes cut.
func (w *world) mend() {
	w.t.Helper()
	w.Nft("public", "delete table ip cut")
	w.check()
}
