// Package proxyproto is the PROXY protocol, versions 1 and 2
// (https://www.haproxy.org/download/2.6/doc/proxy-protocol.txt): a header, before the first byte of
// a connection, that tells a server who its client is.
package proxyproto

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Version is a version of the PROXY protocol. The empty value means none.
type Version string

// The versions.
const (
	V1 Version = "v1" // a line of text
	V2 Version = "v2" // binary
)

// Validate returns an error if the version is none of those.
func (v Version) Validate() error {
	switch v {
	case "", V1, V2:
		return nil
	}
	return fmt.Errorf("%q is not %s or %s", string(v), V1, V2)
}

// Header is what a header says. The zero value says that nothing is known.
type Header struct {
	Client netip.AddrPort // invalid if not known
	Server netip.AddrPort // the address that the client connected to; of the client's family
}

const (
	maxProxyV1 = 107 // bytes, with CR LF; section 2.1

	// Version 2, section 2.2: 12 bytes of signature, version and command, family and protocol, 2
	// bytes of length.
	proxyV2Header = 16
	// maxProxyV2 bounds what follows them: addresses and extensions that are skipped.
	maxProxyV2 = 4096

	proxyV2Local  = 0x20 // version 2, command LOCAL: the proxy speaks for itself
	proxyV2Proxy  = 0x21 // version 2, command PROXY
	proxyV2Unspec = 0x00
	proxyV2TCP4   = 0x11
	proxyV2TCP6   = 0x21

	// proxyTimeout is how long a client may take to send its header.
	proxyTimeout = 5 * time.Second
)

var proxyV2Signature = []byte("\r\n\r\n\x00\r\nQUIT\n")

// New makes a header from what the entrance said of its client, or from nothing. It makes both
// addresses one family, as the header needs them.
func New(client, server string) Header {
	c, err := netip.ParseAddrPort(client)
	if err != nil {
		return Header{}
	}
	c = netip.AddrPortFrom(c.Addr().Unmap().WithZone(""), c.Port())
	s, _ := netip.ParseAddrPort(server)
	s = netip.AddrPortFrom(s.Addr().Unmap().WithZone(""), s.Port())
	if s.Addr().Is4() != c.Addr().Is4() || !s.IsValid() {
		unknown := netip.IPv6Unspecified()
		if c.Addr().Is4() {
			unknown = netip.IPv4Unspecified()
		}
		s = netip.AddrPortFrom(unknown, s.Port())
	}
	return Header{c, s}
}

// Append appends the header in the given version.
func (h Header) Append(b []byte, v Version) []byte {
	if v == V1 {
		return h.appendV1(b)
	}
	return h.appendV2(b)
}

func (h Header) appendV1(b []byte) []byte {
	if !h.Client.IsValid() {
		return append(b, "PROXY UNKNOWN\r\n"...)
	}
	family := "TCP6"
	if h.Client.Addr().Is4() {
		family = "TCP4"
	}
	return fmt.Appendf(b, "PROXY %s %s %s %d %d\r\n", family, h.Client.Addr(), h.Server.Addr(), h.Client.Port(), h.Server.Port())
}

func (h Header) appendV2(b []byte) []byte {
	b = append(b, proxyV2Signature...)
	switch {
	case !h.Client.IsValid():
		return append(b, proxyV2Local, proxyV2Unspec, 0, 0)
	case h.Client.Addr().Is4():
		b = append(b, proxyV2Proxy, proxyV2TCP4, 0, 2*4+2*2)
	default:
		b = append(b, proxyV2Proxy, proxyV2TCP6, 0, 2*16+2*2)
	}
	b = append(b, h.Client.Addr().AsSlice()...)
	b = append(b, h.Server.Addr().AsSlice()...)
	b = binary.BigEndian.AppendUint16(b, h.Client.Port())
	return binary.BigEndian.AppendUint16(b, h.Server.Port())
}

// read reads a header of either version, and not a byte more.
func read(r io.Reader) (Header, error) {
	start := make([]byte, len(proxyV2Signature)) // no header is shorter
	if _, err := io.ReadFull(r, start); err != nil {
		return Header{}, fmt.Errorf("PROXY header: %w", err)
	}
	switch {
	case bytes.Equal(start, proxyV2Signature):
		return readProxyV2(r)
	case bytes.HasPrefix(start, []byte("PROXY ")):
		return readProxyV1(r, start)
	}
	return Header{}, errors.New("PROXY header: the connection does not begin with one")
}

// readProxyV1 reads the rest of a line byte by byte: what follows it is the client's.
func readProxyV1(r io.Reader, line []byte) (Header, error) {
	for b := make([]byte, 1); !bytes.HasSuffix(line, []byte("\r\n")); line = append(line, b[0]) {
		if len(line) == maxProxyV1 {
			return Header{}, errors.New("PROXY header: the line does not end")
		}
		if _, err := io.ReadFull(r, b); err != nil {
			return Header{}, fmt.Errorf("PROXY header: %w", err)
		}
	}
	fields := strings.Split(strings.TrimSuffix(string(line), "\r\n"), " ")
	if fields[1] == "UNKNOWN" {
		return Header{}, nil // whatever follows is to be ignored
	}
	if len(fields) != 6 || fields[1] != "TCP4" && fields[1] != "TCP6" {
		return Header{}, fmt.Errorf("PROXY header: %q makes no sense", line)
	}
	client, err1 := parseAddress(fields[1], fields[2], fields[4])
	server, err2 := parseAddress(fields[1], fields[3], fields[5])
	if err := errors.Join(err1, err2); err != nil {
		return Header{}, fmt.Errorf("PROXY header: %q makes no sense", line)
	}
	return Header{client, server}, nil
}

func parseAddress(family, address, port string) (netip.AddrPort, error) {
	a, err := netip.ParseAddr(address)
	if err != nil {
		return netip.AddrPort{}, err
	}
	p, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return netip.AddrPort{}, err
	}
	if a.Zone() != "" || a.Is4() != (family == "TCP4") || strconv.FormatUint(p, 10) != port {
		return netip.AddrPort{}, errors.New("not an address of the family")
	}
	return netip.AddrPortFrom(a, uint16(p)), nil
}

func readProxyV2(r io.Reader) (Header, error) {
	var rest [proxyV2Header]byte
	head := rest[len(proxyV2Signature):]
	if _, err := io.ReadFull(r, head); err != nil {
		return Header{}, fmt.Errorf("PROXY header: %w", err)
	}
	length := int(binary.BigEndian.Uint16(head[2:]))
	if length > maxProxyV2 {
		return Header{}, fmt.Errorf("PROXY header: %d bytes are too many", length)
	}
	body := make([]byte, length)
	if _, err := io.ReadFull(r, body); err != nil {
		return Header{}, fmt.Errorf("PROXY header: %w", err)
	}
	if head[0] == proxyV2Local {
		return Header{}, nil
	}
	if head[0] != proxyV2Proxy {
		return Header{}, fmt.Errorf("PROXY header: unknown version and command %#x", head[0])
	}
	size := 0
	switch head[1] {
	case proxyV2TCP4:
		size = 4
	case proxyV2TCP6:
		size = 16
	default:
		return Header{}, nil // of another family: "ignore it and use the connection's own", section 2.2
	}
	if length < 2*size+4 {
		return Header{}, fmt.Errorf("PROXY header: %d bytes are too few", length)
	}
	client, _ := netip.AddrFromSlice(body[:size])
	server, _ := netip.AddrFromSlice(body[size : 2*size])
	ports := body[2*size:]
	return Header{
		netip.AddrPortFrom(client, binary.BigEndian.Uint16(ports)),
		netip.AddrPortFrom(server, binary.BigEndian.Uint16(ports[2:])),
	}, nil
}

// Receive reads the header that a client must begin with.
func Receive(c net.Conn) (Header, error) {
	if err := c.SetReadDeadline(time.Now().Add(proxyTimeout)); err != nil {
		return Header{}, err
	}
	h, err := read(c)
	if err != nil {
		return Header{}, err
	}
	return h, c.SetReadDeadline(time.Time{})
}
