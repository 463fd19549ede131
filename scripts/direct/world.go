//go:build linux

package main

import (
	"fmt"
	"time"

	"ztm/scripts/netns"
)

// world is a little internet of network namespaces:
//
//	a 10.1.0.2 ── nat-a 10.1.0.1 / 203.0.113.2 ── public 203.0.113.1 │ 198.51.100.2 ── hub 198.51.100.1
//	b 10.2.0.2 ── nat-b 10.2.0.1 / 203.0.113.6 ── public 203.0.113.5 │
//
// Where the two are far from each other, the cables of public have delays. In one network, b is in the network of a, with 10.1.0.3. Behind one router, b's cable leads to
// nat-a. A carrier's NAT lies between a router and the internet, with 100.64.1.1 inside. See package
// netns for what became of its steps.
type world struct {
	*netns.Net
	far bool
}

// How long a packet takes where the devices are far from each other, and the hub from both: 40 ms from
// device to device and back, and 100 ms by the hub.
const (
	toRouter = 10 * time.Millisecond
	toHub    = 15 * time.Millisecond
)

// hubIP is where the hub is.
const hubIP = "198.51.100.1"

// router is what lies between a device and the internet.
type router struct {
	name    string
	nat     string // how a connection that goes out gets its port; "": there is no NAT for it
	in      string // what becomes of a packet that nobody inside has asked for
	more    string // another rule of what passes
	ipv6    bool   // the device has an address of its own, behind a firewall
	open    bool   // the device's network is one of the internet
	carrier bool   // there is another NAT in front of it, like it
	hairpin bool   // what goes from inside to its own address comes back to who has the port
}

// network is the network of a device: its first three numbers.
func (r router) network(side int) string {
	if r.open {
		return fmt.Sprintf("203.0.%d", 114+side)
	}
	return fmt.Sprintf("10.%d.0", side+1)
}

// rules are those of nftables, for a router whose cable to the internet is called out, with an
// address. What a bridge passes within one network is none of its business: where the machine has
// br_netfilter, that comes to it as well.
func (r router) rules(out, address string) string {
	nat, more := "", ""
	if r.more != "" {
		more = r.more + ";"
	}
	if r.nat != "" {
		nat = `chain out { type nat hook postrouting priority srcnat; oifname @out meta nfproto ipv4 ` + r.nat + `; }`
	}
	if r.hairpin {
		nat += fmt.Sprintf(`
		map ports { type inet_service : ipv4_addr; flags dynamic, timeout; timeout 5m; size 1024; }
		chain turn { type nat hook prerouting priority dstnat; iifname != @out ip daddr %[1]s dnat ip to tcp dport map @ports; }
		chain turned { type nat hook postrouting priority srcnat + 1; oifname != @out ct status dnat snat ip to %[1]s; }`, address)
		more += `iifname != @out oifname @out ip protocol tcp update @ports { tcp sport : ip saddr }; ct status dnat accept;`
	}
	return fmt.Sprintf(`table inet router {
		set out { type ifname; elements = { %q }; }
		%s
		chain in { type filter hook input priority filter; ct state established,related accept; meta l4proto ipv6-icmp accept; iifname @out %s; }
		chain through { type filter hook forward priority filter; iifname lan oifname lan accept; %s ct state established,related accept; meta l4proto ipv6-icmp accept; iifname != @out oifname != @out drop; iifname @out %s; }
	}`, out, nat, r.in, more, r.in)
}

func newWorld(name string, p pair) *world {
	w := &world{netns.New("zd", name), p.far}
	for _, place := range []string{"public", "hub", "nat-a", "nat-b", "a", "b"} {
		w.Add(place)
	}
	w.link("public", "hub", "198.51.100.2/30", hubIP+"/30")
	w.IP("hub", "route add default via 198.51.100.2")
	w.IP("public", "route add unreachable default")
	w.Forward("public")
	w.Nft("hub", `table inet count { chain in { type filter hook input priority filter; tcp dport 8888 counter; }
	}`)
	for i, r := range []router{p.a, p.b} {
		w.router(i, r)
	}
	switch p.lie {
	case oneNetwork:
		w.neighbours()
	case oneRouter:
		w.device("nat-a", 0, p.a)
		w.device("nat-a", 1, p.a)
	default:
		w.device("nat-a", 0, p.a)
		w.device("nat-b", 1, p.b)
	}
	return w
}

// link connects two places, by a line with a delay where that is one of the internet and the devices are far.
func (w *world) link(one, other, oneAddress, otherAddress string) {
	switch {
	case !w.far || one != "public":
		w.Link(one, other, oneAddress, otherAddress)
	case other == "hub":
		w.Line(one, other, oneAddress, otherAddress, toHub)
	default:
		w.Line(one, other, oneAddress, otherAddress, toRouter)
	}
}

// sides are the devices.
var sides = []string{"a", "b"}

// router connects the router of a side with the internet.
func (w *world) router(side int, r router) {
	nat, next := "nat-"+sides[side], "public"
	outer, inner := fmt.Sprintf("203.0.113.%d", 4*side+1), fmt.Sprintf("203.0.113.%d", 4*side+2)
	if r.carrier {
		next = "cgn-" + sides[side]
		w.Add(next)
		w.link("public", next, outer+"/30", inner+"/30")
		w.IP(next, "route add default via "+outer)
		w.Forward(next)
		w.Nft(next, r.rules("public", inner))
		outer, inner = fmt.Sprintf("100.64.%d.1", side+1), fmt.Sprintf("100.64.%d.2", side+1)
	}
	w.link(next, nat, outer+"/30", inner+"/30")
	w.IP(nat, "route add default via "+outer)
	w.Forward(nat)
	w.Nft(nat, r.rules(next, inner))
	if r.open {
		w.IP("public", "route add "+r.network(side)+".0/24 via "+inner)
	}
	if r.ipv6 {
		w.link6("public", nat, fmt.Sprintf("2001:db8:f:%d::", side+1))
		w.IP("public", fmt.Sprintf("-6 route add 2001:db8:%d::/64 via 2001:db8:f:%d::2", side+1, side+1))
		w.IP(nat, fmt.Sprintf("-6 route add default via 2001:db8:f:%d::1", side+1))
	}
}

// device connects the device of a side with a router.
func (w *world) device(nat string, side int, r router) {
	device, network := sides[side], r.network(side)
	w.Link(nat, device, network+".1/24", network+".2/24")
	w.IP(device, "route add default via "+network+".1")
	if r.ipv6 {
		w.link6(nat, device, fmt.Sprintf("2001:db8:%d::", side+1))
		w.IP(device, fmt.Sprintf("-6 route add default via 2001:db8:%d::1", side+1))
	}
}

// neighbours puts both devices behind the router of a, in one network.
func (w *world) neighbours() {
	w.IP("nat-a", "link add name lan type bridge")
	w.IP("nat-a", "addr add 10.1.0.1/24 dev lan")
	w.IP("nat-a", "link set dev lan up")
	for i, side := range sides {
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
