package reach

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"ztm/tunnel/limit"
)

// Ports is a set of ports: ranges that are sorted and do not touch. The zero value is every port. Its ranges are
// shared: read them.
type Ports []PortRange

// PortRange is the ports from First to Last, both included.
type PortRange struct{ First, Last uint16 }

// every is what the zero value of [Ports] stands for.
var every = [...]PortRange{{1, 65535}}

// ParsePorts reads a list such as "22,8000-8999"; "*" is every port.
func ParsePorts(s string) (Ports, error) {
	if s == "*" {
		return nil, nil
	}
	var list Ports
	for part := range strings.SplitSeq(s, ",") {
		r, err := parseRange(part)
		if err != nil {
			return nil, err
		}
		list = append(list, r)
	}
	return list.merged(), nil
}

func parseRange(s string) (PortRange, error) {
	first, last, isRange := strings.Cut(s, "-")
	lo, err := ParsePort(first)
	if err != nil || !isRange {
		return PortRange{lo, lo}, err
	}
	hi, err := ParsePort(last)
	if err != nil {
		return PortRange{}, err
	}
	if hi < lo {
		return PortRange{}, fmt.Errorf("ports %s run backwards", limit.Clip(s))
	}
	return PortRange{lo, hi}, nil
}

// ParsePort reads a port from 1 to 65535.
func ParsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%q is not a port from 1 to 65535", limit.Clip(s))
	}
	return uint16(n), nil
}

// merged sorts the ranges and joins those that touch. It owns ps.
func (ps Ports) merged() Ports {
	slices.SortFunc(ps, func(a, b PortRange) int { return cmp.Compare(a.First, b.First) })
	out := ps[:0]
	for _, r := range ps {
		if n := len(out); n > 0 && int(r.First) <= int(out[n-1].Last)+1 {
			out[n-1].Last = max(out[n-1].Last, r.Last)
		} else {
			out = append(out, r)
		}
	}
	if slices.Equal(out, every[:]) {
		return nil
	}
	return out
}

// Every reports whether the set has every port.
func (ps Ports) Every() bool { return len(ps) == 0 }

// Ranges returns the ranges of the set; every port is one range. The result is shared.
func (ps Ports) Ranges() []PortRange {
	if ps.Every() {
		return every[:]
	}
	return ps
}

// Has reports whether the port is in the set.
func (ps Ports) Has(port uint16) bool {
	return slices.ContainsFunc(ps.Ranges(), func(r PortRange) bool { return r.First <= port && port <= r.Last })
}

// covers reports whether the set has all ports of another one.
func (ps Ports) covers(other Ports) bool {
	for _, o := range other.Ranges() {
		// Ranges of a set do not touch: no two of them together have what one has not.
		if !slices.ContainsFunc(ps.Ranges(), func(r PortRange) bool { return r.First <= o.First && o.Last <= r.Last }) {
			return false
		}
	}
	return true
}

// meet returns the ports that both sets have; ok is false if there is none.
func (ps Ports) meet(other Ports) (both Ports, ok bool) {
	for _, a := range ps.Ranges() {
		for _, b := range other.Ranges() {
			if r := (PortRange{max(a.First, b.First), min(a.Last, b.Last)}); r.First <= r.Last {
				both = append(both, r)
			}
		}
	}
	return both.merged(), len(both) > 0
}

// size returns how many ports the set has.
func (ps Ports) size() int {
	n := 0
	for _, r := range ps.Ranges() {
		n += int(r.Last-r.First) + 1
	}
	return n
}

// String returns the one way to write the set, which [ParsePorts] reads.
func (ps Ports) String() string {
	if ps.Every() {
		return "*"
	}
	var b strings.Builder
	for i, r := range ps {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "%d", r.First)
		if r.Last > r.First {
			fmt.Fprintf(&b, "-%d", r.Last)
		}
	}
	return b.String()
}
