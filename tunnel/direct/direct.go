// Package direct makes a TCP connection between two devices that both dial at the same time, from
// the ports of their connections with a hub (simultaneous open, RFC 9293 section 3.5). It listens
// nowhere: only the very pair of addresses that was dialled can connect. It knows no mesh.
//
//	Places   what a device says of itself: where the hub sees it, and its own addresses
//	Order    which of the peer's places are dialled, and in which order
//	Dial     the attempts of the one that chooses: the first connection that is sealed wins
//	Answer   the attempts of the other one, which takes what comes
package direct

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// Limits of what a peer may say.
const (
	MaxPlaces = 8       // addresses
	MaxBytes  = 1 << 10 // of an encoded Places
)

// Places is where a device may be reached from the port of its connection with a hub. All of its
// addresses have that one port, so that a peer cannot make another device look for open ports.
type Places struct {
	Seen  netip.AddrPort `json:"seen,omitzero"`   // where the hub sees it; zero: the hub does not say
	Port  uint16         `json:"port,omitempty"`  // of Local
	Local []netip.Addr   `json:"local,omitempty"` // of its interfaces, at most MaxPlaces
}

var errTooMuch = errors.New("too many places")

// Parse decodes what a peer says.
func Parse(b []byte) (Places, error) {
	var p Places
	if len(b) > MaxBytes {
		return p, errTooMuch
	}
	if err := json.Unmarshal(b, &p); err != nil {
		return p, fmt.Errorf("places: %v", err)
	}
	return p, p.Check()
}

// Check reports what is wrong with decoded Places.
func (p Places) Check() error {
	if len(p.Local) > MaxPlaces {
		return errTooMuch
	}
	return nil
}

// Kind says what kind of way a place is.
type Kind string

// The kinds, the shortest way first.
const (
	LAN     Kind = "LAN"
	IPv6    Kind = "IPv6"
	Punched Kind = "punched"
)

// Candidate is a place of the peer that is dialled.
type Candidate struct {
	Kind Kind
	To   netip.AddrPort
	From netip.Addr // the own address of what came of it
}

// leastPort keeps dials away from the ports of services.
const leastPort = 1024

// Interfaces are the addresses of this device, each with its network.
type Interfaces struct {
	Own     []netip.Prefix // of interfaces behind which there are other devices
	Virtual []netip.Prefix // of those that lead to this machine alone, or through another mesh
}

// Order returns which places of a peer are dialled. near is that the hub sees both devices at one
// address; what the peer says of that does not count.
//
//  1. LAN: its private addresses that are in a network of ours; all of them where near
//  2. IPv6: its global addresses
//  3. punched: where the hub sees it, and its global IPv4 addresses
//
// Within one rank the order is the peer's. Left out are addresses that are nobody's or everybody's
// (loopback, link-local, multicast, unspecified, reserved), our own, those behind virtual interfaces,
// those of ports below 1024, and repeated ones. A peer that lies so makes us dial few places, and no
// service.
func Order(here Interfaces, near bool, peer Places) []Candidate {
	var ranks [3][]Candidate
	known := map[netip.AddrPort]bool{}
	add := func(to netip.AddrPort, fromHub bool) {
		to = netip.AddrPortFrom(to.Addr().Unmap().WithZone(""), to.Port())
		if known[to] || !here.dialable(to) {
			return
		}
		known[to] = true
		switch {
		case Inside(to.Addr()) && !fromHub && (near || longest(here.Own, to.Addr()) >= 0):
			ranks[0] = append(ranks[0], Candidate{Kind: LAN, To: to})
		case Inside(to.Addr()):
		case to.Addr().Is6():
			ranks[1] = append(ranks[1], Candidate{Kind: IPv6, To: to})
		default:
			ranks[2] = append(ranks[2], Candidate{Kind: Punched, To: to})
		}
	}
	for _, a := range peer.Local[:min(len(peer.Local), MaxPlaces)] {
		add(netip.AddrPortFrom(a, peer.Port), false)
	}
	add(peer.Seen, true)
	all := slices.Concat(ranks[:]...)
	return all[:min(len(all), MaxPlaces)]
}

// carrierGrade are the addresses between a provider's NAT and its customers (RFC 6598).
var carrierGrade = netip.MustParsePrefix("100.64.0.0/10")

// globalIPv6 are the addresses of the Internet (RFC 4291 section 2.4; IANA gives out no others).
var globalIPv6 = netip.MustParsePrefix("2000::/3")

// Inside reports whether an address means something within one network alone.
func Inside(a netip.Addr) bool { return a.IsPrivate() || carrierGrade.Contains(a) }

// longest returns the length of the longest of some networks that have an address; -1 if none has.
func longest(networks []netip.Prefix, a netip.Addr) int {
	n := -1
	for _, p := range networks {
		if p.Contains(a) {
			n = max(n, p.Bits())
		}
	}
	return n
}

func (i Interfaces) dialable(to netip.AddrPort) bool {
	a := to.Addr()
	if !a.IsValid() || to.Port() < leastPort || !a.IsGlobalUnicast() {
		return false
	}
	if a.Is4() && (a.As4()[0] == 0 || a.As4()[0] >= 240) {
		return false
	}
	if a.Is6() && !a.IsPrivate() && !globalIPv6.Contains(a) { // addresses that lead to ones of IPv4 among them
		return false
	}
	if v := longest(i.Virtual, a); v >= 0 && v >= longest(i.Own, a) {
		return false
	}
	return !slices.ContainsFunc(i.Own, func(p netip.Prefix) bool { return p.Addr() == a })
}

// Own returns the Places of this device at a port. Addresses that mean something within one network
// alone are left out unless private says that the peer may know them.
func Own(addresses []netip.Prefix, seen netip.AddrPort, port uint16, private bool) Places {
	p := Places{Seen: seen, Port: port}
	for _, a := range addresses {
		if len(p.Local) < MaxPlaces && (private || !Inside(a.Addr())) {
			p.Local = append(p.Local, a.Addr())
		}
	}
	return p
}

// virtual begins the names of interfaces behind which there is no other device, or which lead
// through another mesh.
var virtual = []string{
	"docker", "br-", "veth", "virbr", "cni", "flannel", "cali", "podman", "lxc", "vmnet", "vboxnet", "vethernet", // of this machine
	"tun", "wg", "utun", "tailscale", "zt", // of another mesh
}

// Addresses lists the global and private addresses of this device's interfaces that are up.
func Addresses() (out Interfaces, err error) {
	interfaces, err := net.Interfaces()
	if err != nil {
		return out, err
	}
	for _, i := range interfaces {
		if i.Flags&net.FlagUp == 0 || i.Flags&net.FlagLoopback != 0 {
			continue
		}
		list := &out.Own
		if i.Flags&net.FlagPointToPoint != 0 || isVirtual(i.Name) {
			list = &out.Virtual
		}
		addrs, err := i.Addrs()
		if err != nil {
			continue // it went away meanwhile
		}
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().IsGlobalUnicast() {
				*list = append(*list, p)
			}
		}
	}
	return out, nil
}

func isVirtual(name string) bool {
	name = strings.ToLower(name)
	return slices.ContainsFunc(virtual, func(v string) bool { return strings.HasPrefix(name, v) })
}
