package proxy

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// dest is where a client wants to go: a name or an address, and a port. There is one way to write each destination,
// so that no spelling of a forbidden one gets past a pattern.
type dest struct {
	name string     // lower case, without the trailing dot; "" if the destination is an address
	as   string     // the short name that the client wrote, if name is that with a search domain appended
	full bool       // no search domain is to be appended to name: it ended with a dot, or has one appended
	addr netip.Addr // valid if name is ""; never IPv4-mapped, never with a zone
	port uint16     // 0 means any port: the destination of a DNS question
}

// parseDest reads "host:port", as CONNECT, SOCKS and the flow of a peer give it.
func parseDest(hostport string) (dest, error) {
	host, port, err := net.SplitHostPort(hostport)
	if err != nil {
		return dest{}, fmt.Errorf("%q is not host:port", clip(hostport))
	}
	if strings.HasPrefix(hostport, "[") && !strings.Contains(host, ":") {
		return dest{}, fmt.Errorf("%q: brackets are for IPv6 addresses", clip(hostport))
	}
	n, err := parsePort(port)
	if err != nil {
		return dest{}, err
	}
	return newDest(host, n)
}

// newDest makes a destination of a host that is a name, an IPv4 or an IPv6 address without brackets.
func newDest(host string, port uint16) (dest, error) {
	if strings.Contains(host, "%") {
		return dest{}, fmt.Errorf("%q: a zone means something at one endpoint only", clip(host))
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		return dest{addr: addr.Unmap(), port: port}, nil
	}
	name, full := strings.CutSuffix(strings.ToLower(host), ".")
	if err := checkName(name); err != nil {
		return dest{}, err
	}
	return dest{name: name, full: full, port: port}, nil
}

// host returns the name or the address as it is written in a URL, but without brackets.
func (d dest) host() string {
	switch {
	case d.name == "":
		return d.addr.String()
	case d.full:
		return d.name + "."
	}
	return d.name
}

// String returns "host:port", which [parseDest] reads back.
func (d dest) String() string {
	return net.JoinHostPort(d.host(), strconv.Itoa(int(d.port)))
}

// within returns the destination with a search domain appended to its name.
func (d dest) within(domain string) dest {
	return dest{name: d.name + "." + domain, as: d.name, full: true, port: d.port}
}

// maxName is the longest name that DNS can carry, in bytes and without the trailing dot (RFC 1035 section 2.3.4).
const maxName = 253

// checkName accepts lower-case host names, with underscores as service names have them. A last label that is a number
// is refused: to some resolvers "2130706433", "0x7f.1" and "0177.0.0.1" are all 127.0.0.1.
func checkName(name string) error {
	if name == "" || len(name) > maxName {
		return fmt.Errorf("%q is not a host name: want 1 to %d characters", clip(name), maxName)
	}
	var label string
	for rest, more := name, true; more; {
		label, rest, more = strings.Cut(rest, ".")
		if err := checkLabel(label); err != nil {
			return fmt.Errorf("%q is not a host name: %w", clip(name), err)
		}
	}
	if isNumber(label) {
		return fmt.Errorf("%q is neither a host name nor an address in the usual notation", clip(name))
	}
	return nil
}

func checkLabel(label string) error {
	if label == "" || len(label) > 63 {
		return errors.New("a label has 1 to 63 characters")
	}
	for _, c := range []byte(label) {
		if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
			return errors.New("want letters, digits, '-' and '_' (write other scripts in their xn-- form)")
		}
	}
	return nil
}

// isNumber reports what the WHATWG URL standard, section 3.5, calls "ends in a number".
func isNumber(label string) bool {
	if strings.Trim(label, "0123456789") == "" {
		return true
	}
	hex, ok := strings.CutPrefix(label, "0x")
	return ok && strings.Trim(hex, "0123456789abcdef") == ""
}

// parsePort reads a port from 1 to 65535.
func parsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 || s[0] == '+' {
		return 0, fmt.Errorf("%q is not a port from 1 to 65535", clip(s))
	}
	return uint16(n), nil
}

// clip keeps what a stranger sent from filling an error message.
func clip(s string) string {
	const most = 80
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}
