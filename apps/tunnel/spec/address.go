package spec

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"ztm/apps/listen"
)

// maxRange is how many ports one address may span: each of them costs a listener.
const maxRange = 1024

// Address is where a tunnel listens or what it connects to, as it is written:
//
//	127.0.0.1:8080   [::1]:8080   db.local:5432   *:8080   8080   127.0.0.1:7000-7010   unix:/run/db.sock
//
// A port alone means 127.0.0.1. The host "*" stands for all addresses of the machine and is for
// listening alone. A range stands for its ports, each on its own. The zero value is no address.
type Address struct {
	Host  string // empty for a unix socket
	First uint16 // the port, or the first port of a range; 0 lets the system choose one to listen on
	Last  uint16 // the last port of a range; equal to First otherwise
	Path  string // of a unix socket
}

const UnixPrefix = "unix:"

// ParseAddress reads an address.
func ParseAddress(s string) (Address, error) {
	if path, ok := strings.CutPrefix(s, UnixPrefix); ok {
		return Address{Path: path}, checkPath(path)
	}
	host, ports, err := splitHost(s)
	if err != nil {
		return Address{}, err
	}
	first, last, ranged := strings.Cut(ports, "-")
	if !ranged {
		last = first
	}
	a := Address{Host: host}
	if a.First, err = parsePort(first); err == nil {
		a.Last, err = parsePort(last)
	}
	switch {
	case err != nil:
		return Address{}, fmt.Errorf("address %q: %w", s, err)
	case a.First > a.Last:
		return Address{}, fmt.Errorf("address %q: the range of ports is backwards: write %d-%d", s, a.Last, a.First)
	case ranged && a.First == 0:
		return Address{}, fmt.Errorf("address %q: a range of ports begins with 1 or more", s)
	case a.Size() > maxRange:
		return Address{}, fmt.Errorf("address %q: a range has at most %d ports: open several tunnels", s, maxRange)
	}
	return a, nil
}

// checkPath checks the path of a socket. It travels as JSON, in which a file name that is not UTF-8
// would silently become another one, with U+FFFD in it.
func checkPath(path string) error {
	switch {
	case path == "" || strings.ContainsFunc(path, unicode.IsControl):
		return fmt.Errorf("address %q: unix: wants the path of a socket after it", UnixPrefix+path)
	case !utf8.ValidString(path) || strings.ContainsRune(path, utf8.RuneError):
		return fmt.Errorf("address %q: the path is not UTF-8: give the socket another name, or a link to it", UnixPrefix+path)
	case len(path) > listen.MaxPath:
		return fmt.Errorf("address %q: the path has %d bytes, and a socket's has at most %d: use a shorter one, or a link",
			UnixPrefix+path, len(path), listen.MaxPath)
	}
	return nil
}

// splitHost splits host and ports, and supplies the host that a port alone means.
func splitHost(s string) (host, ports string, err error) {
	if !strings.Contains(s, ":") {
		return "127.0.0.1", s, nil
	}
	host, ports, err = net.SplitHostPort(s)
	switch {
	case err != nil:
		return "", "", fmt.Errorf("address %q: want HOST:PORT, with an IPv6 address in brackets, or unix:PATH", s)
	case host == "":
		// Elsewhere this means "all addresses", and nobody should get that by leaving something
		// out.
		return "", "", fmt.Errorf("address %q: write *%s for all addresses, %s for 127.0.0.1", s, s, ports)
	case host == "*":
		return host, ports, nil
	case strings.Contains(host, ":"): // SplitHostPort took the brackets off
		ip, _, _ := strings.Cut(host, "%")
		if net.ParseIP(ip) == nil {
			return "", "", fmt.Errorf("address %q: %q is not an IPv6 address", s, host)
		}
	}
	if strings.ContainsFunc(host, func(r rune) bool { return r >= utf8.RuneSelf }) {
		return "", "", fmt.Errorf("address %q: write the host in the letters of DNS, as xn--...: a name in another script is never found", s)
	}
	if len(host) > 253 || strings.ContainsFunc(host, notInHost) || strings.HasPrefix(s, "[") != strings.Contains(host, ":") {
		return "", "", fmt.Errorf("address %q: %q is not a host", s, host)
	}
	return host, ports, nil
}

func notInHost(r rune) bool {
	return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune(".-_:%", r)
}

func parsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil {
		return 0, fmt.Errorf("%q is not a port: want a number to 65535, or a range such as 7000-7010", s)
	}
	return uint16(n), nil
}

// String returns the address as [ParseAddress] reads it.
func (a Address) String() string {
	if a.Path != "" {
		return UnixPrefix + a.Path
	}
	ports := strconv.Itoa(int(a.First))
	if a.Last != a.First {
		ports += "-" + strconv.Itoa(int(a.Last))
	}
	return net.JoinHostPort(a.Host, ports)
}

// MarshalText makes addresses strings in JSON.
func (a Address) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText reads what MarshalText wrote, and what people write.
func (a *Address) UnmarshalText(b []byte) (err error) {
	*a, err = ParseAddress(string(b))
	return err
}

// Size returns how many ports the address spans: 1 unless it is a range.
func (a Address) Size() int { return int(a.Last) - int(a.First) + 1 }

// At returns the address of one port of a range; i counts from 0.
func (a Address) At(i int) Address {
	if a.Path == "" {
		a.First += uint16(i)
		a.Last = a.First
	}
	return a
}

// Network returns the network and the address as package net wants them; transport is "tcp" or
// "udp".
func (a Address) Network(transport string) (network, address string) {
	if a.Path != "" {
		return "unix", a.Path
	}
	host := a.Host
	switch ip := net.ParseIP(host); {
	case host == "*":
		host = ""
	case ip.To4() != nil && ip.IsUnspecified():
		transport += "4" // without it, package net listens on all addresses of IPv6, too
	}
	return transport, net.JoinHostPort(host, strconv.Itoa(int(a.First)))
}

// Overlaps reports whether two listeners of the same transport would get in each other's way.
func (a Address) Overlaps(b Address) bool {
	if a.Path != "" || b.Path != "" {
		return a.Path == b.Path
	}
	if a.First == 0 || b.First == 0 || a.First > b.Last || b.First > a.Last {
		return false
	}
	return a.Host == b.Host || a.includes(b) || b.includes(a)
}

// wild reports whether the address stands for all of the machine's, or for all of IPv4.
func (a Address) wild() bool {
	ip := net.ParseIP(a.Host)
	return a.Host == "*" || ip != nil && ip.IsUnspecified()
}

// includes reports whether who listens on the host of a listens on that of b, too. A name may be
// any address.
func (a Address) includes(b Address) bool {
	all4, other := net.ParseIP(a.Host).To4() != nil, net.ParseIP(b.Host)
	return a.wild() && (!all4 || b.wild() || other == nil || other.To4() != nil)
}
