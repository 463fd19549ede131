//go:build linux

package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// world is a little internet of network namespaces:
//
//	a 10.1.0.2 ── nat-a 10.1.0.1 / 203.0.113.2 ── public 203.0.113.1 │ 198.51.100.1
//	b 10.2.0.2 ── nat-b 10.2.0.1 / 203.0.113.6 ── public 203.0.113.5 │   (the hub)
//
// The agents live in a and b, which have private addresses. Their routers let connections out with their own address in
// the place of the private one, and let nothing in.
type world struct {
	t      testing.TB
	suffix string
	names  []string
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
	w := &world{t: t, suffix: strconv.FormatUint(rand.Uint64()>>40, 36)}
	t.Cleanup(w.end)
	for _, place := range []string{"public", "nat-a", "nat-b", "a", "b"} {
		w.add(place)
	}
	w.ip("public", "addr add "+hubIP+"/32 dev lo")
	w.ip("public", "route add unreachable default")
	w.forward("public")
	for i, side := range []string{"a", "b"} {
		inner, outer := fmt.Sprintf("10.%d.0.", i+1), fmt.Sprintf("203.0.113.%%d/30")
		w.link("public", "nat-"+side, fmt.Sprintf(outer, 4*i+1), fmt.Sprintf(outer, 4*i+2))
		w.link("nat-"+side, side, inner+"1/24", inner+"2/24")
		w.ip("nat-"+side, fmt.Sprintf("route add default via 203.0.113.%d", 4*i+1))
		w.ip(side, "route add default via "+inner+"1")
		w.forward("nat-" + side)
		w.nft("nat-"+side, `table ip nat {
			chain out { type nat hook postrouting priority srcnat; oifname "public" masquerade; }
			chain in { type filter hook input priority filter; ct state established,related accept; iifname "public" drop; }
			chain through { type filter hook forward priority filter; ct state established,related accept; iifname "public" drop; }
		}`)
	}
	return w
}

func (w *world) name(place string) string { return "ztm-" + w.suffix + "-" + place }

func (w *world) add(place string) {
	w.t.Helper()
	w.names = append(w.names, w.name(place))
	w.run("ip", "netns", "add", w.name(place))
	w.ip(place, "link set dev lo up")
}

// end removes the namespaces. Links and rules go with them.
func (w *world) end() {
	for _, name := range w.names {
		if out, err := exec.Command("ip", "netns", "del", name).CombinedOutput(); err != nil {
			w.t.Errorf("ip netns del %s: %v\n%s", name, err, out)
		}
	}
}

// link connects two places with a cable. At either end it is called after the place at the other.
func (w *world) link(one, other, oneAddress, otherAddress string) {
	w.t.Helper()
	w.run("ip", "link", "add", "name", other, "netns", w.name(one), "type", "veth", "peer", "name", one, "netns", w.name(other))
	w.ip(one, "addr add "+oneAddress+" dev "+other)
	w.ip(other, "addr add "+otherAddress+" dev "+one)
	w.ip(one, "link set dev "+other+" up")
	w.ip(other, "link set dev "+one+" up")
}

func (w *world) forward(place string) {
	w.t.Helper()
	w.run(append(w.in(place), "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")...)
}

// in is what makes a command run at a place.
func (w *world) in(place string) []string {
	return []string{"ip", "netns", "exec", w.name(place)}
}

func (w *world) ip(place, words string) {
	w.t.Helper()
	w.run(append([]string{"ip", "-n", w.name(place)}, strings.Fields(words)...)...)
}

func (w *world) nft(place, rules string) {
	w.t.Helper()
	w.run(append(w.in(place), program(w.t, "nft", "nftables"), rules)...)
}

func (w *world) run(words ...string) {
	w.t.Helper()
	if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
		w.t.Fatalf("%s: %v\n%s", strings.Join(words, " "), err, out)
	}
}

// reaches reports whether a program at a place gets an answer from an IP address.
func (w *world) reaches(place, ip string) bool {
	words := append(w.in(place), program(w.t, "ping", "iputils-ping"), "-c", "1", "-W", "1", ip)
	return exec.Command(words[0], words[1:]...).Run() == nil
}

// cut drops everything to and from the hub's port.
func (w *world) cut(port int) {
	w.t.Helper()
	w.nft("public", fmt.Sprintf(`table ip cut {
		chain in { type filter hook input priority filter; tcp dport %d drop; }
		chain out { type filter hook output priority filter; tcp sport %d drop; }
	}`, port, port))
}

// mend undoes cut.
func (w *world) mend() {
	w.t.Helper()
	w.nft("public", "delete table ip cut")
}
