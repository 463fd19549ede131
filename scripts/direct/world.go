//go:build linux

package main

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
)

// world is a little internet of network namespaces:
//
//	a 10.1.0.2 ── nat-a 10.1.0.1 / 203.0.113.2 ── public 203.0.113.1 │ 198.51.100.1
//	b 10.2.0.2 ── nat-b 10.2.0.1 / 203.0.113.6 ── public 203.0.113.5 │   (the hub)
//
// Where the two are neighbours, b is in the network of a, with 10.1.0.3. Each step is done unless one
// before it failed.
type world struct {
	prefix string
	names  []string
	err    error
}

// hubIP is where the hub is.
const hubIP = "198.51.100.1"

// router is what lies between a device and the internet.
type router struct {
	name string
	nat  string // how a connection that goes out gets its port; "": there is no NAT for it
	in   string // what becomes of a packet that nobody inside has asked for
	more string // another rule of what passes
	ipv6 bool   // the device has an address of its own, behind a firewall
}

// rules are those of nftables. The packets of connections between the two are counted at the hub's
// machine by others.
func (r router) rules() string {
	nat, more := "", ""
	if r.more != "" {
		more = r.more + ";"
	}
	if r.nat != "" {
		nat = fmt.Sprintf(`chain out { type nat hook postrouting priority srcnat; oifname "public" meta nfproto ipv4 %s; }`, r.nat)
	}
	return fmt.Sprintf(`table inet router {
		%s
		chain in { type filter hook input priority filter; ct state established,related accept; meta l4proto ipv6-icmp accept; iifname "public" %s; }
		chain through { type filter hook forward priority filter; %s ct state established,related accept; meta l4proto ipv6-icmp accept; iifname "public" %s; }
	}`, nat, r.in, more, r.in)
}

func newWorld(prefix string, a, b router, neighbours bool) *world {
	w := &world{prefix: prefix}
	for _, place := range []string{"public", "nat-a", "nat-b", "a", "b"} {
		w.add(place)
	}
	w.ip("public", "addr add "+hubIP+"/32 dev lo")
	w.ip("public", "route add unreachable default")
	w.forward("public")
	// What the hub itself gets, apart from what this machine only passes on.
	w.nft("public", `table inet count { chain in { type filter hook input priority filter; tcp dport 8888 counter; }
	}`)
	for i, side := range []string{"a", "b"} {
		r, nat := []router{a, b}[i], "nat-"+side
		w.link("public", nat, fmt.Sprintf("203.0.113.%d/30", 4*i+1), fmt.Sprintf("203.0.113.%d/30", 4*i+2))
		w.ip(nat, fmt.Sprintf("route add default via 203.0.113.%d", 4*i+1))
		w.forward(nat)
		w.nft(nat, r.rules())
		if neighbours {
			continue
		}
		w.link(nat, side, fmt.Sprintf("10.%d.0.1/24", i+1), fmt.Sprintf("10.%d.0.2/24", i+1))
		w.ip(side, fmt.Sprintf("route add default via 10.%d.0.1", i+1))
		if r.ipv6 {
			w.link6("public", nat, fmt.Sprintf("2001:db8:f:%d::", i+1))
			w.link6(nat, side, fmt.Sprintf("2001:db8:%d::", i+1))
			w.ip("public", fmt.Sprintf("-6 route add 2001:db8:%d::/64 via 2001:db8:f:%d::2", i+1, i+1))
			w.ip(nat, fmt.Sprintf("-6 route add default via 2001:db8:f:%d::1", i+1))
			w.ip(side, fmt.Sprintf("-6 route add default via 2001:db8:%d::1", i+1))
		}
	}
	if neighbours {
		w.neighbours()
	}
	return w
}

// neighbours puts both devices behind the router of a.
func (w *world) neighbours() {
	w.ip("nat-a", "link add name lan type bridge")
	w.ip("nat-a", "addr add 10.1.0.1/24 dev lan")
	w.ip("nat-a", "link set dev lan up")
	for i, side := range []string{"a", "b"} {
		w.run("ip", "link", "add", "name", side, "netns", w.name("nat-a"), "type", "veth", "peer", "name", "nat-a", "netns", w.name(side))
		w.ip("nat-a", "link set dev "+side+" master lan up")
		w.ip(side, fmt.Sprintf("addr add 10.1.0.%d/24 dev nat-a", i+2))
		w.ip(side, "link set dev nat-a up")
		w.ip(side, "route add default via 10.1.0.1")
	}
}

func (w *world) name(place string) string { return w.prefix + "-" + place }

func (w *world) add(place string) {
	if w.run("ip", "netns", "add", w.name(place)); w.err == nil {
		w.names = append(w.names, w.name(place))
	}
	w.ip(place, "link set dev lo up")
}

// end removes the namespaces. Links and rules go with them.
func (w *world) end() error {
	var errs []error
	for _, name := range w.names {
		if out, err := exec.Command("ip", "netns", "del", name).CombinedOutput(); err != nil {
			errs = append(errs, fmt.Errorf("ip netns del %s: %v: %s", name, err, out))
		}
	}
	return errors.Join(errs...)
}

// link connects two places with a cable. At either end it is called after the place at the other.
func (w *world) link(one, other, oneAddress, otherAddress string) {
	w.run("ip", "link", "add", "name", other, "netns", w.name(one), "type", "veth", "peer", "name", one, "netns", w.name(other))
	w.ip(one, "addr add "+oneAddress+" dev "+other)
	w.ip(other, "addr add "+otherAddress+" dev "+one)
	w.ip(one, "link set dev "+other+" up")
	w.ip(other, "link set dev "+one+" up")
}

// link6 gives the ends of a cable addresses of a network.
func (w *world) link6(one, other, network string) {
	w.ip(one, "-6 addr add "+network+"1/64 dev "+other+" nodad")
	w.ip(other, "-6 addr add "+network+"2/64 dev "+one+" nodad")
}

func (w *world) forward(place string) {
	w.run(append(w.in(place), "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding")...)
}

// in is what makes a command run at a place.
func (w *world) in(place string) []string { return []string{"ip", "netns", "exec", w.name(place)} }

func (w *world) ip(place, words string) {
	w.run(append([]string{"ip", "-n", w.name(place)}, strings.Fields(words)...)...)
}

func (w *world) nft(place, rules string) { w.run(append(w.in(place), "nft", rules)...) }

func (w *world) run(words ...string) {
	if w.err != nil {
		return
	}
	if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
		w.err = fmt.Errorf("%s: %v: %s", strings.Join(words, " "), err, out)
	}
}

// output is what a program at a place prints.
func (w *world) output(place string, words ...string) (string, error) {
	out, err := exec.Command(w.in(place)[0], append(w.in(place)[1:], words...)...).CombinedOutput()
	return string(out), err
}
