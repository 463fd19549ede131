package reach

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"ztm/tunnel/limit"
)

// Dest is where a client wants to go: a name or an address, and a port. There is one way to write each destination,
// so that no spelling of a forbidden one gets past a pattern.
type Dest struct {
	Name  string     // lower case, without the trailing dot; "" if the destination is an address
	Short string     // the short name that the client wrote, if name is that with a search domain appended
	Full  bool       // no search domain is to be appended to name: it ended with a dot, or has one appended
	Addr  netip.Addr // valid if name is ""; never IPv4-mapped, never with a zone
	Port  uint16     // 0 means any port: the destination of a DNS question
}

// ParseDest reads "host:port", as CONNECT, SOCKS and the flow of a peer give it.
func ParseDest(hostport string) (Dest, error) {
	host, port, err := net.SplitHostPort(hostport)
	if err != nil {
		return Dest{}, fmt.Errorf("%q is not host:port", limit.Clip(hostport))
	}
	if strings.HasPrefix(hostport, "[") && !strings.Contains(host, ":") {
		return Dest{}, fmt.Errorf("%q: brackets are for IPv6 addresses", limit.Clip(hostport))
	}
	n, err := ParsePort(port)
	if err != nil {
		return Dest{}, err
	}
	return NewDest(host, n)
}

// NewDest makes a destination of a host that is a name, an IPv4 or an IPv6 address without brackets.
func NewDest(host string, port uint16) (Dest, error) {
	if strings.Contains(host, "%") {
		return Dest{}, fmt.Errorf("%q: a zone means something at one endpoint only", limit.Clip(host))
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		return Dest{Addr: addr.Unmap(), Port: port}, nil
	}
	name, full := strings.CutSuffix(strings.ToLower(host), ".")
	if err := CheckName(name); err != nil {
		return Dest{}, err
	}
	return Dest{Name: name, Full: full, Port: port}, nil
}

// Host returns the name or the address as it is written in a URL, but without brackets.
func (d Dest) Host() string {
	switch {
	case d.Name == "":
		return d.Addr.String()
	case d.Full:
		return d.Name + "."
	}
	return d.Name
}

// String returns "host:port", which [ParseDest] reads back.
func (d Dest) String() string {
	return net.JoinHostPort(d.Host(), strconv.Itoa(int(d.Port)))
}

// Text returns the destination for people: without a port if any port is meant.
func (d Dest) Text() string {
	if d.Port == 0 {
		return d.Host()
	}
	return d.String()
}

// Within returns the destination with a search domain appended to its name.
func (d Dest) Within(domain string) Dest {
	return Dest{Name: d.Name + "." + domain, Short: d.Name, Full: true, Port: d.Port}
}

// MaxName is the longest name that DNS can carry, in bytes and without the trailing dot (RFC 1035 section 2.3.4).
const MaxName = 253

// CheckName accepts lower-case host names, with underscores as service names have them. A last label that is a number
// is refused: to some resolvers "2130706433", "0x7f.1" and "0177.0.0.1" are all 127.0.0.1.
func CheckName(name string) error {
	if name == "" || len(name) > MaxName {
		return fmt.Errorf("%q is not a host name: want 1 to %d characters", limit.Clip(name), MaxName)
	}
	var label string
	for rest, more := name, true; more; {
		label, rest, more = strings.Cut(rest, ".")
		if err := checkLabel(label); err != nil {
			return fmt.Errorf("%q is not a host name: %w", limit.Clip(name), err)
		}
	}
	if isNumber(label) {
		return fmt.Errorf("%q is neither a host name nor an address in the usual notation", limit.Clip(name))
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
