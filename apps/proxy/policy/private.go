package policy

import (
	"net/netip"
	"slices"
)

// never reports addresses that are no destination at all. On Linux a connection to 0.0.0.0 or :: ends at loopback.
func never(a netip.Addr) bool {
	return a.IsUnspecified() || a.IsMulticast() || a.Is4() && (a.As4()[0] == 0 || a.As4() == [4]byte{255, 255, 255, 255})
}

// private reports addresses that mean something else to each machine: what is reached there is the endpoint itself, its
// own link, or what its cloud tells it alone, such as credentials.
func private(a netip.Addr) bool {
	return slices.ContainsFunc(privateNetworks, func(n netip.Prefix) bool { return n.Contains(a) })
}

// privateNetworks are the networks that [private] is about. A target reaches into one only by naming it, or a part.
var privateNetworks = []netip.Prefix{
	netip.MustParsePrefix("127.0.0.0/8"),    // loopback
	netip.MustParsePrefix("::1/128"),        // loopback
	netip.MustParsePrefix("169.254.0.0/16"), // link-local, and the metadata service of most clouds
	netip.MustParsePrefix("fe80::/10"),      // link-local
	netip.MustParsePrefix("fec0::/10"),      // site-local, which some systems still scope (RFC 3879)

	netip.MustParsePrefix("192.0.0.0/24"),           // protocol assignments (RFC 6890); 192.0.0.192 was Oracle's metadata
	netip.MustParsePrefix("100.100.100.200/32"),     // metadata at Alibaba
	netip.MustParsePrefix("168.63.129.16/32"),       // the host agent at Azure
	netip.MustParsePrefix("fd00:ec2::/32"),          // metadata, credentials of pods, time and names at AWS
	netip.MustParsePrefix("fd00:c1::a9fe:a9fe/128"), // metadata at Oracle
	netip.MustParsePrefix("fd00:42::42/128"),        // metadata at Scaleway
	netip.MustParsePrefix("fd20:ce::254/128"),       // metadata at Google
}

// embedded returns the IPv4 addresses that an IPv6 address may stand for, where a translator or a tunnel turns it into
// one. Which of several is right depends on how it was set up. It cannot know prefixes that a network has chosen for
// its own translator (RFC 6052 section 2.2): exclude those.
func embedded(a netip.Addr) []netip.Addr {
	if !a.Is6() {
		return nil
	}
	b := a.As16()
	var out []netip.Addr
	add := func(b0, b1, b2, b3 byte) { out = append(out, netip.AddrFrom4([4]byte{b0, b1, b2, b3})) }
	zero := func(from, to int) bool { return !slices.ContainsFunc(b[from:to], func(x byte) bool { return x != 0 }) }
	switch {
	case [6]byte(b[:6]) == [6]byte{0x00, 0x64, 0xff, 0x9b, 0x00, 0x01}: // NAT64, local use (RFC 8215)
		out = localNAT64(b)
	case [4]byte(b[:4]) == [4]byte{0x00, 0x64, 0xff, 0x9b}: // NAT64 (RFC 6052 section 2.1)
		add(b[12], b[13], b[14], b[15])
	case b[0] == 0x20 && b[1] == 0x02: // 6to4 (RFC 3056 section 2)
		add(b[2], b[3], b[4], b[5])
	case [4]byte(b[:4]) == [4]byte{0x20, 0x01, 0, 0}: // Teredo: the server, and the client upside down (RFC 4380 section 4)
		add(b[4], b[5], b[6], b[7])
		add(^b[12], ^b[13], ^b[14], ^b[15])
	case zero(0, 8) && [4]byte(b[8:12]) == [4]byte{0xff, 0xff, 0, 0}: // SIIT (RFC 2765 section 2.1)
		add(b[12], b[13], b[14], b[15])
	case zero(0, 12) && !a.IsLoopback() && !a.IsUnspecified(): // IPv4-compatible (RFC 4291 section 2.5.5.1)
		add(b[12], b[13], b[14], b[15])
	}
	if b[8]&^0x02 == 0 && b[9] == 0 && b[10] == 0x5e && b[11] == 0xfe { // ISATAP (RFC 5214 section 6.1)
		add(b[12], b[13], b[14], b[15])
	}
	return out
}

// localNAT64 returns what an address of 64:ff9b:1::/48 may stand for, for the lengths that the translator's prefix may
// have: 48, 56, 64 and 96 bits (RFC 6052 section 2.2).
func localNAT64(b [16]byte) []netip.Addr {
	out := []netip.Addr{
		netip.AddrFrom4([4]byte{b[6], b[7], b[9], b[10]}),
		netip.AddrFrom4([4]byte{b[7], b[9], b[10], b[11]}),
		netip.AddrFrom4([4]byte(b[9:13])),
		netip.AddrFrom4([4]byte(b[12:16])),
	}
	// 0.0.0.0/8 is the padding of another length.
	return slices.DeleteFunc(out, func(a netip.Addr) bool { return a.As4()[0] == 0 })
}
