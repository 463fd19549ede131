package tunnel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"strconv"
)

// Of RFC 1928, and of RFC 1929 for a password.
const (
	socksVersion         = 5
	socksPasswordVersion = 1
	socksNoPassword      = 0 // methods
	socksPassword        = 2
	socksConnect         = 1
	socksIPv4            = 1 // kinds of address
	socksName            = 3
	socksIPv6            = 4
)

// socksRefusals are the answers of a SOCKS server to a request, from 1 on.
var socksRefusals = [...]string{"general failure", "the rules do not allow it", "network unreachable", "host unreachable",
	"connection refused", "time to live expired", "the command is not supported", "the kind of address is not supported"}

// askSOCKS asks a SOCKS server for a connection to an address, which c is from then on:
//
//	methods -> method [-> user, password -> accepted] -> CONNECT address -> answer, bound address
//
// It reads no byte more: what comes after the answer belongs to the connection.
func askSOCKS(c net.Conn, user *url.Userinfo, address string) error {
	request, err := appendSOCKS([]byte{socksVersion, socksConnect, 0}, address)
	if err != nil {
		return err
	}
	if err := greetSOCKS(c, user); err != nil {
		return err
	}
	if _, err := c.Write(request); err != nil {
		return err
	}
	head, err := read(c, 4)
	if err != nil {
		return err
	}
	if code := int(head[1]); head[0] != socksVersion || code != 0 {
		why := fmt.Sprintf("answer %d", code)
		if head[0] == socksVersion && code <= len(socksRefusals) {
			why = socksRefusals[code-1]
		}
		return fmt.Errorf("it refuses a connection to %s: %s", address, why)
	}
	return skipSOCKS(c, head[3])
}

// greetSOCKS agrees on how the server knows who asks, and says so.
func greetSOCKS(c net.Conn, user *url.Userinfo) error {
	hello := []byte{socksVersion, 1, socksNoPassword}
	if user != nil {
		hello = []byte{socksVersion, 2, socksNoPassword, socksPassword}
	}
	if _, err := c.Write(hello); err != nil {
		return err
	}
	method, err := read(c, 2)
	switch {
	case err != nil:
		return err
	case method[0] != socksVersion:
		return fmt.Errorf("it speaks no SOCKS5: version %d", method[0])
	case method[1] == socksNoPassword:
		return nil
	case method[1] != socksPassword || user == nil:
		return errors.New("it wants to know who asks in a way that was not offered")
	}
	name := user.Username()
	password, _ := user.Password()
	if len(name) == 0 || len(name) > 255 || len(password) > 255 {
		return errors.New("SOCKS takes a name of 1 to 255 bytes and a password of at most 255")
	}
	ask := append([]byte{socksPasswordVersion, byte(len(name))}, name...)
	ask = append(append(ask, byte(len(password))), password...)
	if _, err := c.Write(ask); err != nil {
		return err
	}
	status, err := read(c, 2)
	if err == nil && status[1] != 0 {
		err = errors.New("it refuses the user and the password")
	}
	return err
}

// appendSOCKS appends an address as SOCKS writes it.
func appendSOCKS(b []byte, address string) ([]byte, error) {
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	port, err := strconv.ParseUint(service, 10, 16)
	if err != nil {
		return nil, err
	}
	switch ip, err := netip.ParseAddr(host); {
	case err == nil && ip.Unmap().Is4():
		b = append(append(b, socksIPv4), ip.Unmap().AsSlice()...)
	case err == nil && ip.Zone() == "":
		b = append(append(b, socksIPv6), ip.AsSlice()...)
	case len(host) > 255:
		return nil, fmt.Errorf("a name of %d bytes, SOCKS takes 255", len(host))
	default:
		b = append(append(b, socksName, byte(len(host))), host...)
	}
	return binary.BigEndian.AppendUint16(b, uint16(port)), nil
}

// skipSOCKS reads an address of a kind, and its port.
func skipSOCKS(c net.Conn, kind byte) error {
	size := map[byte]int{socksIPv4: 4, socksIPv6: 16}[kind]
	if kind == socksName {
		length, err := read(c, 1)
		if err != nil {
			return err
		}
		size = int(length[0])
	} else if size == 0 {
		return fmt.Errorf("its answer has an address of kind %d", kind)
	}
	_, err := read(c, size+2)
	return err
}

// read reads exactly so many bytes.
func read(r io.Reader, n int) ([]byte, error) {
	b := make([]byte, n)
	_, err := io.ReadFull(r, b)
	return b, err
}
