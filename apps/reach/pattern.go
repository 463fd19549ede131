package reach

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"ztm/tunnel/limit"
)

// Pattern says which destinations a target, an exclusion, a rule or a route is about:
//
//   - every name and every address
//     svc.example.com        this name
//     *.example.com          every name below it, at any depth, but not example.com itself
//     10.1.2.3  fd00::1      this address
//     10.43.0.0/16  fd00::/8 every address of the network
//
// Ports may follow, as a list of single ones and ranges: "*.example.com:443", "10.0.0.0/8:22,8000-8100",
// "[fd00::/8]:22". Without them, and with "*", every port is meant. Case does not matter, and a trailing dot is
// ignored.
//
// Exactly one of Any, Name, Suffix and Prefix is set. The zero value matches nothing. Two patterns mean the same if
// their texts are the same (see [Pattern.String]).
type Pattern struct {
	Any    bool         // "*"
	Name   string       // a name, in lower case and without the trailing dot
	Suffix string       // ".example.com" for "*.example.com"
	Prefix netip.Prefix // an address or a network
	Ports  Ports        // the zero value is every port
}

// maxPattern is the longest pattern, in bytes: a name, and a few dozen ports.
const maxPattern = 600

// ParsePattern reads a pattern.
func ParsePattern(s string) (Pattern, error) {
	if len(s) > maxPattern {
		return Pattern{}, fmt.Errorf("pattern %q is longer than %d bytes", limit.Clip(s), maxPattern)
	}
	host, ports := cutPorts(strings.ToLower(s))
	var p Pattern
	if ports != "" {
		var err error
		if p.Ports, err = ParsePorts(ports[1:]); err != nil {
			return Pattern{}, fmt.Errorf("pattern %q: %w", limit.Clip(s), err)
		}
	}
	if err := p.setHost(host); err != nil {
		return Pattern{}, fmt.Errorf("pattern %q: %w", limit.Clip(s), err)
	}
	return p, nil
}

// ParsePatterns reads a list of patterns.
func ParsePatterns(texts []string) ([]Pattern, error) {
	out := make([]Pattern, 0, len(texts))
	for _, t := range texts {
		p, err := ParsePattern(t)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

// Texts is the inverse of [ParsePatterns], in canonical form.
func Texts(ps []Pattern) []string {
	out := make([]string, 0, len(ps))
	for _, p := range ps {
		out = append(out, p.String())
	}
	return out
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

func (p *Pattern) setHost(host string) error {
	if host == "*" {
		p.Any = true
		return nil
	}
	if strings.Contains(host, "/") {
		return p.setNetwork(host)
	}
	if rest, ok := strings.CutPrefix(host, "*."); ok {
		rest = strings.TrimSuffix(rest, ".")
		if err := CheckName(rest); err != nil {
			return err
		}
		p.Suffix = "." + rest
		return nil
	}
	d, err := NewDest(host, 0)
	if err != nil {
		return err
	}
	if d.Name != "" {
		p.Name = d.Name
		return nil
	}
	p.Prefix = netip.PrefixFrom(d.Addr, d.Addr.BitLen())
	return nil
}

func (p *Pattern) setNetwork(s string) error {
	n, err := netip.ParsePrefix(s)
	if err != nil {
		return fmt.Errorf("%q is not a network such as 10.0.0.0/8", limit.Clip(s))
	}
	if n.Addr().Is4In6() {
		// Addresses are unmapped before they are compared: as IPv6 such a network would match none of them.
		return fmt.Errorf("write the network %q as an IPv4 network", limit.Clip(s))
	}
	p.Prefix = n.Masked()
	return nil
}

// Match reports whether the pattern is about d: about its address, or about its name as the client wrote it or in
// full. A network never matches a name. A destination without a port matches if any port would.
func (p Pattern) Match(d Dest) bool {
	if d.Port != 0 && !p.Ports.Has(d.Port) {
		return false
	}
	switch {
	case p.Any:
		return true
	case p.Prefix.IsValid():
		return d.Name == "" && p.Prefix.Contains(d.Addr)
	}
	return p.matchName(d.Name) || p.matchName(d.Short)
}

func (p Pattern) matchName(name string) bool {
	if p.Suffix != "" {
		return len(name) > len(p.Suffix) && strings.HasSuffix(name, p.Suffix)
	}
	return name != "" && p.Name == name
}

// Covers reports whether the pattern matches every destination that q matches.
func (p Pattern) Covers(q Pattern) bool { return p.Ports.covers(q.Ports) && p.coversHost(q) }

func (p Pattern) coversHost(q Pattern) bool {
	switch {
	case p.Any:
		return true
	case p.Prefix.IsValid():
		return q.Prefix.IsValid() && p.Prefix.Bits() <= q.Prefix.Bits() && p.Prefix.Contains(q.Prefix.Addr())
	case p.Suffix != "":
		return strings.HasSuffix(q.Suffix, p.Suffix) || p.matchName(q.Name)
	}
	return p.Name != "" && p.Name == q.Name
}

// Meet returns a pattern for the destinations that both patterns could be about. Whether a name is within a network
// is known when it is resolved: such a pair meets in the name.
func (p Pattern) Meet(q Pattern) (Pattern, bool) {
	out := p
	switch {
	case q.coversHost(p):
	case p.coversHost(q), p.Prefix.IsValid() && !q.Prefix.IsValid():
		out = q
	case q.Prefix.IsValid() && !p.Prefix.IsValid():
	default:
		return Pattern{}, false
	}
	var ok bool
	out.Ports, ok = p.Ports.meet(q.Ports)
	return out, ok
}

// CatchAll reports whether the pattern says nothing about where it leads.
func (p Pattern) CatchAll() bool { return p.Any || p.Prefix.IsValid() && p.Prefix.Bits() == 0 }

// Weight orders patterns that match the same destination: the more specific one is heavier. An exact name or address
// weighs most, then the longer suffix or network; "*" weighs least. At the same host, fewer ports weigh more. It is
// positive.
func (p Pattern) Weight() int {
	host := 0
	switch {
	case p.Any:
	case p.Prefix.IsValid():
		host = 1 + p.Prefix.Bits()*256/p.Prefix.Addr().BitLen()
	case p.Suffix != "":
		host = 1 + len(p.Suffix)
	default:
		host = 1 + MaxName + 3
	}
	return host<<16 | (65536 - p.Ports.size())
}

// Heaviest returns the weight of the most specific of the patterns that match d, -1 if none does.
func Heaviest(ps []Pattern, d Dest) int {
	w := -1
	for _, p := range ps {
		if p.Match(d) {
			w = max(w, p.Weight())
		}
	}
	return w
}

// Excludes is [Pattern.Match] for patterns that take away: it reports whether one of them is about d. A destination
// without a port is about no port in particular, and is excluded only if all ports are.
func Excludes(ps []Pattern, d Dest) bool {
	return slices.ContainsFunc(ps, func(p Pattern) bool { return (d.Port != 0 || p.Ports.Every()) && p.Match(d) })
}

// Distinct leaves out patterns that are there already. It changes ps.
func Distinct(ps []Pattern) []Pattern {
	seen := map[string]bool{}
	return slices.DeleteFunc(ps, func(p Pattern) bool {
		text := p.String()
		again := seen[text]
		seen[text] = true
		return again
	})
}

// String returns the one way to write the pattern; "" for the zero value.
func (p Pattern) String() string {
	host := p.host()
	switch {
	case p.Ports.Every():
		return host
	case p.Prefix.IsValid() && p.Prefix.Addr().Is6():
		host = "[" + host + "]"
	}
	return host + ":" + p.Ports.String()
}

func (p Pattern) host() string {
	switch {
	case p.Any:
		return "*"
	case p.Suffix != "":
		return "*" + p.Suffix
	case p.Prefix.IsSingleIP():
		return p.Prefix.Addr().String()
	case p.Prefix.IsValid():
		return p.Prefix.String()
	}
	return p.Name
}

// MarshalText makes patterns strings in JSON.
func (p Pattern) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads what MarshalText wrote, and what people write. No text at all is the zero value.
func (p *Pattern) UnmarshalText(b []byte) (err error) {
	if len(b) == 0 {
		*p = Pattern{}
		return nil
	}
	*p, err = ParsePattern(string(b))
	return err
}
