package proxy

import (
	"fmt"
	"net/netip"
	"strings"
)

// pattern says which destinations a target, an exclusion, a rule or a route is about:
//
//   - every name and every address
//     svc.example.com        this name
//     *.example.com          every name below it, at any depth, but not example.com itself
//     10.1.2.3  fd00::1      this address
//     10.43.0.0/16  fd00::/8 every address of the network
//
// A port or a range of ports may follow: "*.example.com:443", "10.0.0.0/8:8000-8100", "[fd00::/8]:22". Without it,
// every port is meant. Case does not matter, and a trailing dot is ignored.
type pattern struct {
	any    bool         // "*"
	name   string       // a name, or "" if this pattern is about addresses
	suffix string       // ".example.com" for "*.example.com"
	prefix netip.Prefix // valid if this pattern is about addresses
	lo, hi uint16       // ports, both included; 1 and 65535 if every port is meant
}

const maxPattern = 300 // bytes: a name, a range of ports and room

func parsePattern(s string) (pattern, error) {
	if len(s) > maxPattern {
		return pattern{}, fmt.Errorf("pattern %q is longer than %d bytes", clip(s), maxPattern)
	}
	host, ports := cutPorts(strings.ToLower(s))
	p := pattern{lo: 1, hi: 65535}
	if ports != "" {
		var err error
		if p.lo, p.hi, err = parsePorts(ports[1:]); err != nil {
			return pattern{}, fmt.Errorf("pattern %q: %w", clip(s), err)
		}
	}
	if err := p.setHost(host); err != nil {
		return pattern{}, fmt.Errorf("pattern %q: %w", clip(s), err)
	}
	return p, nil
}

// cutPorts splits a pattern into its host, without brackets, and ":ports" or "".
func cutPorts(s string) (host, ports string) {
	if inner, ok := strings.CutPrefix(s, "["); ok {
		if host, ports, ok = strings.Cut(inner, "]"); ok && strings.Contains(host, ":") && (ports == "" || ports[0] == ':') {
			return host, ports
		}
		return s, "" // which no host looks like
	}
	if i := strings.IndexByte(s, ':'); i >= 0 && i == strings.LastIndexByte(s, ':') {
		return s[:i], s[i:]
	}
	return s, ""
}

func parsePorts(s string) (lo, hi uint16, err error) {
	first, last, isRange := strings.Cut(s, "-")
	if lo, err = parsePort(first); err != nil {
		return 0, 0, err
	}
	if !isRange {
		return lo, lo, nil
	}
	if hi, err = parsePort(last); err != nil {
		return 0, 0, err
	}
	if hi < lo {
		return 0, 0, fmt.Errorf("ports %s run backwards", s)
	}
	return lo, hi, nil
}

func (p *pattern) setHost(host string) error {
	if host == "*" {
		p.any = true
		return nil
	}
	if strings.Contains(host, "/") {
		return p.setNetwork(host)
	}
	if rest, ok := strings.CutPrefix(host, "*."); ok {
		rest = strings.TrimSuffix(rest, ".")
		if err := checkName(rest); err != nil {
			return err
		}
		p.suffix = "." + rest
		return nil
	}
	d, err := newDest(host, 0)
	if err != nil {
		return err
	}
	if d.name != "" {
		p.name = d.name
		return nil
	}
	p.prefix = netip.PrefixFrom(d.addr, d.addr.BitLen())
	return nil
}

func (p *pattern) setNetwork(s string) error {
	n, err := netip.ParsePrefix(s)
	if err != nil {
		return fmt.Errorf("%q is not a network such as 10.0.0.0/8", s)
	}
	if n.Addr().Is4In6() {
		// Addresses are unmapped before they are compared: as IPv6 such a network would match none of them.
		return fmt.Errorf("write the network %q as an IPv4 network", s)
	}
	p.prefix = n.Masked()
	return nil
}

func (p pattern) everyPort() bool { return p.lo == 1 && p.hi == 65535 }

// match reports whether the pattern is about d: about its address, or about its name as the client wrote it or in
// full. A network never matches a name. A destination without a port matches if any port would.
func (p pattern) match(d dest) bool {
	if d.port != 0 && (d.port < p.lo || d.port > p.hi) {
		return false
	}
	switch {
	case p.any:
		return true
	case p.prefix.IsValid():
		return d.name == "" && p.prefix.Contains(d.addr)
	}
	return p.matchName(d.name) || p.matchName(d.as)
}

func (p pattern) matchName(name string) bool {
	if p.suffix != "" {
		return len(name) > len(p.suffix) && strings.HasSuffix(name, p.suffix)
	}
	return name != "" && p.name == name
}

// covers reports whether the pattern matches every destination that q matches.
func (p pattern) covers(q pattern) bool { return p.lo <= q.lo && q.hi <= p.hi && p.coversHost(q) }

func (p pattern) coversHost(q pattern) bool {
	switch {
	case p.any:
		return true
	case p.prefix.IsValid():
		return q.prefix.IsValid() && p.prefix.Bits() <= q.prefix.Bits() && p.prefix.Contains(q.prefix.Addr())
	case p.suffix != "":
		return strings.HasSuffix(q.suffix, p.suffix) || p.matchName(q.name)
	}
	return p.name != "" && p.name == q.name
}

// meet returns a pattern for the destinations that both patterns could be about. Whether a name is within a network
// is known when it is resolved: such a pair meets in the name.
func (p pattern) meet(q pattern) (pattern, bool) {
	out := p
	switch {
	case q.coversHost(p):
	case p.coversHost(q), p.prefix.IsValid() && !q.prefix.IsValid():
		out = q
	case q.prefix.IsValid() && !p.prefix.IsValid():
	default:
		return pattern{}, false
	}
	out.lo, out.hi = max(p.lo, q.lo), min(p.hi, q.hi)
	return out, out.lo <= out.hi
}

// catchAll reports whether the pattern says nothing about where it leads.
func (p pattern) catchAll() bool { return p.any || p.prefix.IsValid() && p.prefix.Bits() == 0 }

// weight orders patterns that match the same destination: the more specific one is heavier. An exact name or address
// weighs most, then the longer suffix or network; "*" weighs least. At the same host, fewer ports weigh more.
func (p pattern) weight() int {
	host := 0
	switch {
	case p.any:
	case p.prefix.IsValid():
		host = 1 + p.prefix.Bits()*256/p.prefix.Addr().BitLen()
	case p.suffix != "":
		host = 1 + len(p.suffix)
	default:
		host = 1 + maxName + 3
	}
	return host<<16 | int(65535-(p.hi-p.lo))
}

// heaviest returns the weight of the most specific of the patterns that match d, -1 if none does.
func heaviest(ps []pattern, d dest) int {
	w := -1
	for _, p := range ps {
		if p.match(d) {
			w = max(w, p.weight())
		}
	}
	return w
}

func parsePatterns(texts []string) ([]pattern, error) {
	out := make([]pattern, 0, len(texts))
	for _, t := range texts {
		p, err := parsePattern(t)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

// texts is the inverse of [parsePatterns], in canonical form.
func texts(ps []pattern) []string {
	out := make([]string, 0, len(ps))
	for _, p := range ps {
		out = append(out, p.String())
	}
	return out
}

// String returns the one way to write the pattern.
func (p pattern) String() string {
	host := p.hostText()
	switch {
	case p.everyPort():
		return host
	case p.prefix.IsValid() && p.prefix.Addr().Is6():
		host = "[" + host + "]"
	}
	if p.lo == p.hi {
		return fmt.Sprintf("%s:%d", host, p.lo)
	}
	return fmt.Sprintf("%s:%d-%d", host, p.lo, p.hi)
}

func (p pattern) hostText() string {
	switch {
	case p.any:
		return "*"
	case p.suffix != "":
		return "*" + p.suffix
	case p.prefix.IsSingleIP():
		return p.prefix.Addr().String()
	case p.prefix.IsValid():
		return p.prefix.String()
	}
	return p.name
}
