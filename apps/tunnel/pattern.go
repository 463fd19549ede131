package tunnel

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// maxPattern is the longest pattern, in bytes.
const maxPattern = 300

// Pattern says which addresses may be reached, as people write it: "10.0.0.0/8:22,8000-8999", "[fd00::/8]:*",
// "192.0.2.1:80", "db.local:5432", "*.local:443". A name matches what was asked for by that name; addresses match what
// is connected to. The zero value matches nothing.
type Pattern struct {
	text   string
	prefix netip.Prefix // valid for addresses
	name   string       // in lower case; with a leading dot for all names below it
	ports  []portRange
}

type portRange struct{ first, last uint16 }

// ParsePattern reads a pattern.
func ParsePattern(s string) (Pattern, error) {
	host, ports, err := net.SplitHostPort(s)
	if err != nil || host == "" || len(s) > maxPattern {
		return Pattern{}, fmt.Errorf("%q: want CIDR:PORTS or NAME:PORTS, "+
			"such as 10.0.0.0/8:22,8000-8999, [fd00::/8]:* or *.local:443", s)
	}
	p := Pattern{text: s}
	if p.ports, err = parsePorts(ports); err != nil {
		return Pattern{}, fmt.Errorf("%q: %w", s, err)
	}
	if ip, err := netip.ParseAddr(host); err == nil && ip.Zone() == "" {
		p.prefix = netip.PrefixFrom(ip.Unmap(), ip.Unmap().BitLen())
		return p, nil
	}
	if strings.ContainsAny(host, "/:%") {
		prefix, err := netip.ParsePrefix(host)
		if err != nil || prefix.Masked() != prefix || prefix.Addr().Is4In6() {
			return Pattern{}, fmt.Errorf("%q: %q is not a network such as 10.0.0.0/8", s, host)
		}
		p.prefix = prefix
		return p, nil
	}
	p.name = canonical(strings.TrimPrefix(host, "*"))
	if strings.HasPrefix(host, "*") != strings.HasPrefix(p.name, ".") || strings.Trim(p.name, ".") == "" ||
		strings.ContainsFunc(p.name, notInHost) {
		return Pattern{}, fmt.Errorf("%q: %q is neither a name nor *.NAME", s, host)
	}
	return p, nil
}

func parsePorts(s string) ([]portRange, error) {
	if s == "*" {
		return []portRange{{1, 65535}}, nil
	}
	var list []portRange
	for _, part := range strings.Split(s, ",") {
		first, last, ranged := strings.Cut(part, "-")
		if !ranged {
			last = first
		}
		a, err1 := strconv.ParseUint(first, 10, 16)
		b, err2 := strconv.ParseUint(last, 10, 16)
		if err1 != nil || err2 != nil || a == 0 || a > b {
			return nil, fmt.Errorf("%q is not a list of ports such as 22,8000-8999, or *", s)
		}
		list = append(list, portRange{uint16(a), uint16(b)})
	}
	return list, nil
}

// canonical returns a name in the form in which names are compared.
func canonical(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

func (p Pattern) String() string { return p.text }

// MarshalText makes patterns strings in JSON.
func (p Pattern) MarshalText() ([]byte, error) { return []byte(p.text), nil }

// UnmarshalText reads what MarshalText wrote, and what people write.
func (p *Pattern) UnmarshalText(b []byte) (err error) {
	*p, err = ParsePattern(string(b))
	return err
}

func (p Pattern) matchesPort(port uint16) bool {
	for _, r := range p.ports {
		if r.first <= port && port <= r.last {
			return true
		}
	}
	return false
}

func (p Pattern) matchesName(name string, port uint16) bool {
	if p.name == "" || !p.matchesPort(port) {
		return false
	}
	name = canonical(name)
	return name == p.name || strings.HasPrefix(p.name, ".") && strings.HasSuffix(name, p.name)
}

func (p Pattern) matchesIP(ip netip.Addr, port uint16) bool {
	return p.prefix.IsValid() && p.matchesPort(port) && p.prefix.Contains(ip.Unmap().WithZone(""))
}
