// Package direct makes a TCP connection between two devices that both dial at the same time, from
// the ports of their connections with a hub (simultaneous open, RFC 9293 section 3.5). It listens
// nowhere: only the very pair of addresses that was dialled can connect. It knows no mesh.
//
//	Places   what a device says of itself: where the hub sees it, and its own addresses
//	Order    which of the peer's places are dialled, and in which order
//	Dial     the attempts of the one that chooses: the first connection that is sealed wins
//	Answer   the attempts of the other one, which takes what comes
//	Socket   a UDP socket of its own port, for package datagram, which finds a way for it by Places
package direct

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
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
// Within one of these the order is the peer's. Left out are addresses that are nobody's or everybody's
// (loopback, link-local, multicast, unspecified, reserved), our own, those behind virtual interfaces,
// those of ports below 1024, and repeated ones. A peer that lies so makes us dial few places, and no
// service.
func Order(here Interfaces, near bool, peer Places) (out []Candidate) {
	var all [MaxPlaces + 1]netip.AddrPort
	seen := min(len(peer.Local), MaxPlaces) // where the hub says it is
	for i := range seen {
		all[i] = plain(peer.Local[i], peer.Port)
	}
	all[seen] = plain(peer.Seen.Addr(), peer.Seen.Port())
	for _, kind := range [...]Kind{LAN, IPv6, Punched} {
		for i := range all {
			if to := all[i]; here.kind(to, near, i == seen) == kind && !named(out, to) {
				out = append(out, Candidate{Kind: kind, To: to})
			}
		}
	}
	return out[:min(len(out), MaxPlaces)]
}

// plain is a place in the one form that it is compared in.
func plain(a netip.Addr, port uint16) netip.AddrPort {
	return netip.AddrPortFrom(a.Unmap().WithZone(""), port)
}

func named(candidates []Candidate, place netip.AddrPort) bool {
	for i := range candidates {
		if candidates[i].To == place {
			return true
		}
	}
	return false
}

// kind is that of a place of the peer; "" where it is not dialled.
func (i Interfaces) kind(to netip.AddrPort, near, fromHub bool) Kind {
	a := to.Addr()
	switch {
	case !i.dialable(to):
	case !Inside(a) && a.Is6():
		return IPv6
	case !Inside(a):
		return Punched
	case !fromHub && (near || longest(i.Own, a) >= 0):
		return LAN
	}
	return ""
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
	return !i.Has(a)
}

// Has reports whether an address is this device's.
func (i Interfaces) Has(a netip.Addr) bool {
	for _, p := range i.Own {
		if p.Addr() == a {
			return true
		}
	}
	return false
}

// Own returns the Places of this device at a port. private says that the peer may know addresses that
// mean something within one network alone, and public that it may know the others.
func Own(addresses []netip.Prefix, seen netip.AddrPort, port uint16, private, public bool) Places {
	p := Places{Seen: seen, Port: port}
	for _, a := range addresses {
		may := public
		if Inside(a.Addr()) {
			may = private
		}
		if may && len(p.Local) < MaxPlaces {
			p.Local = append(p.Local, a.Addr())
		}
	}
	return p
}

// virtual begins the names of interfaces behind which there is no other device, or which lead
// through another mesh.
var virtual = []string{
	"docker", "virbr", "cni", "flannel", "cali", "podman", "lxc", "lxdbr", "incusbr", "vmnet", "vboxnet", // of this machine
	"vethernet (default switch", "vethernet (wsl", "vethernet (nat", // the same on Windows
	"tun", "wg", "utun", "tailscale", "zt", // of another mesh
}

// containers matches the bridges of Docker's networks, and the cables to containers. Bridges of routers are called
// br-lan and the like, and what Windows has in a switch vEthernet.
func containers(name string) bool {
	id, is := strings.CutPrefix(name, "br-")
	return is && len(id) == 12 && strings.Trim(id, "0123456789abcdef") == "" ||
		strings.HasPrefix(name, "veth") && !strings.HasPrefix(name, "vethernet")
}

// Addresses lists the global and private addresses of this device's interfaces that are up.
func Addresses() (out Interfaces, err error) { return addresses(net.Interfaces) }

func addresses(list func() ([]net.Interface, error)) (out Interfaces, err error) {
	interfaces, err := list()
	if err != nil {
		if out = outward(); len(out.Own) > 0 {
			err = nil
		}
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

// outward are the addresses that packets to the internet leave from. It is for programs that may not ask for
// interfaces, as on newer versions of Android: their networks are not known.
func outward() (out Interfaces) {
	for _, to := range [...]string{"192.0.2.1:9", "[2001:db8::1]:9"} {
		c, err := net.Dial("udp", to) // sends nothing
		if err != nil {
			continue // there is no way there
		}
		a := c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
		c.Close()
		out.Own = append(out.Own, netip.PrefixFrom(a, a.BitLen()))
	}
	return out
}

func isVirtual(name string) bool {
	name = strings.ToLower(name)
	for _, v := range virtual {
		if strings.HasPrefix(name, v) {
			return true
		}
	}
	return containers(name)
}
