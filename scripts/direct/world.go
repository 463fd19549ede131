//go:build linux

package main

import (
	"fmt"

	"ztm/scripts/netns"
)

// world is a little internet of network namespaces:
//
//	a 10.1.0.2 ── nat-a 10.1.0.1 / 203.0.113.2 ── public 203.0.113.1 │ 198.51.100.1
//	b 10.2.0.2 ── nat-b 10.2.0.1 / 203.0.113.6 ── public 203.0.113.5 │   (the hub)
//
// Where the two are neighbours, b is in the network of a, with 10.1.0.3.
type world struct{ netns.Net }

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
	w := &world{netns.Net{Prefix: prefix}}
	for _, place := range []string{"public", "nat-a", "nat-b", "a", "b"} {
		w.Add(place)
	}
	w.IP("public", "addr add "+hubIP+"/32 dev lo")
	w.IP("public", "route add unreachable default")
	w.Forward("public")
	// What the hub itself gets, apart from what this machine only passes on.
	w.Nft("public", `table inet count { chain in { type filter hook input priority filter; tcp dport 8888 counter; }
	}`)
	for i, side := range []string{"a", "b"} {
		r, nat := []router{a, b}[i], "nat-"+side
		w.Link("public", nat, fmt.Sprintf("203.0.113.%d/30", 4*i+1), fmt.Sprintf("203.0.113.%d/30", 4*i+2))
		w.IP(nat, fmt.Sprintf("route add default via 203.0.113.%d", 4*i+1))
		w.Forward(nat)
		w.Nft(nat, r.rules())
		if neighbours {
			continue
		}
		w.Link(nat, side, fmt.Sprintf("10.%d.0.1/24", i+1), fmt.Sprintf("10.%d.0.2/24", i+1))
		w.IP(side, fmt.Sprintf("route add default via 10.%d.0.1", i+1))
		if r.ipv6 {
			w.link6("public", nat, fmt.Sprintf("2001:db8:f:%d::", i+1))
			w.link6(nat, side, fmt.Sprintf("2001:db8:%d::", i+1))
			w.IP("public", fmt.Sprintf("-6 route add 2001:db8:%d::/64 via 2001:db8:f:%d::2", i+1, i+1))
			w.IP(nat, fmt.Sprintf("-6 route add default via 2001:db8:f:%d::1", i+1))
			w.IP(side, fmt.Sprintf("-6 route add default via 2001:db8:%d::1", i+1))
		}
	}
	if neighbours {
		w.neighbours()
	}
	return w
}

// neighbours puts both devices behind the router of a.
func (w *world) neighbours() {
	w.IP("nat-a", "link add name lan type bridge")
	w.IP("nat-a", "addr add 10.1.0.1/24 dev lan")
	w.IP("nat-a", "link set dev lan up")
	for i, side := range []string{"a", "b"} {
		w.Run("ip", "link", "add", "name", side, "netns", w.Name("nat-a"), "type", "veth", "peer", "name", "nat-a", "netns", w.Name(side))
		w.IP("nat-a", "link set dev "+side+" master lan up")
		w.IP(side, fmt.Sprintf("addr add 10.1.0.%d/24 dev nat-a", i+2))
		w.IP(side, "link set dev nat-a up")
		w.IP(side, "route add default via 10.1.0.1")
	}
}

// link6 gives the ends of a cable addresses of a network.
func (w *world) link6(one, other, network string) {
	w.IP(one, "-6 addr add "+network+"1/64 dev "+other+" nodad")
	w.IP(other, "-6 addr add "+network+"2/64 dev "+one+" nodad")
}
