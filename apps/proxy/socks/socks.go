// Package socks serves the clients of SOCKS4, SOCKS4a and SOCKS5 (RFC 1928, RFC 1929).
//
// A request has few bytes and says its length, so it is read without
// a buffer: nothing that follows it is read too early, and the connection stays one that the kernel can join.
// The reply is sent when the exit has connected, or has said why not.
package socks

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"ztm/apps/proxy/clients"
	"ztm/apps/reach"
	"ztm/tunnel/answer"
	"ztm/tunnel/limit"
)

// Server serves clients of SOCKS.
type Server struct {
	clients *clients.List
	open    open
	log     *slog.Logger
	legs    *limit.Share[*association]
}

// open connects a client to a destination: network is "tcp", or "udp" for a connection that carries datagrams.
type open func(ctx context.Context, network string, d reach.Dest) (net.Conn, error)

// New makes a server for clients. connect connects a client to d: network is "tcp", or "udp" for a connection that
// carries datagrams.
func New(c *clients.List, connect func(ctx context.Context, network string, d reach.Dest) (net.Conn, error), log *slog.Logger) *Server {
	return &Server{clients: c, open: connect, log: log, legs: limit.NewShare[*association](MaxLegs)}
}

// Protocol numbers of SOCKS5.
const (
	methodNone     = 0x00
	methodPassword = 0x02
	methodRefused  = 0xff

	commandConnect   = 0x01
	commandAssociate = 0x03

	addressIPv4 = 0x01
	addressName = 0x03
	addressIPv6 = 0x04
)

// reply is a reply code of SOCKS5 (RFC 1928 section 6).
type reply byte

const (
	replyOK              reply = 0x00
	replyFailure         reply = 0x01
	replyNotAllowed      reply = 0x02
	replyNetUnreachable  reply = 0x03
	replyHostUnreachable reply = 0x04
	replyRefused         reply = 0x05
	replyExpired         reply = 0x06
	replyBadCommand      reply = 0x07
	replyBadAddress      reply = 0x08
)

// Replies of SOCKS4.
const (
	granted4  = 90
	rejected4 = 91
	noUser4   = 93
)

var (
	errSOCKS    = errors.New("malformed SOCKS request")
	errPassword = errors.New("wrong user or password")
)

// replyTo says in SOCKS5 why a connection could not be made.
func replyTo(err error) reply {
	switch answer.CodeOf(err) {
	case "":
		return replyOK
	case answer.Denied, answer.Prohibited:
		return replyNotAllowed
	case answer.NotFound, answer.Unavailable, answer.Broken: // there is no exit, or no way to it
		return replyNetUnreachable
	case answer.Unreachable, answer.DNS:
		return replyHostUnreachable
	case answer.Refused:
		return replyRefused
	case answer.Timeout:
		return replyExpired
	}
	return replyFailure
}

// Serve5 serves a connection whose first byte, the version, was read.
func (s *Server) Serve5(ctx context.Context, c *clients.Client) error {
	if err := s.negotiate(ctx, c); err != nil {
		return err
	}
	var head [4]byte // VER CMD RSV ATYP
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return err
	}
	if head[0] != 5 || head[2] != 0 {
		return errSOCKS
	}
	d, err := readAddress(c, head[3])
	if errors.Is(err, errSOCKS) {
		writeReply(c, replyBadAddress, netip.AddrPort{})
	}
	if err != nil {
		return err
	}
	c.SetDeadline(time.Time{})
	switch head[1] {
	case commandConnect:
		return s.connect5(ctx, c, d)
	case commandAssociate:
		return s.associate(ctx, c, d)
	}
	return writeReply(c, replyBadCommand, netip.AddrPort{})
}

// negotiate agrees on a method and checks the password. Where no password is asked for, a client that insists on
// giving one may.
func (s *Server) negotiate(ctx context.Context, c *clients.Client) error {
	methods, err := readBlock(c)
	if err != nil {
		return err
	}
	switch required := s.clients.Required(); {
	case !required && bytes.IndexByte(methods, methodNone) >= 0:
		_, err = c.Write([]byte{5, methodNone})
		return err
	case bytes.IndexByte(methods, methodPassword) >= 0:
		if _, err := c.Write([]byte{5, methodPassword}); err != nil {
			return err
		}
		return s.readPassword(ctx, c, required)
	}
	c.Write([]byte{5, methodRefused})
	return errPassword
}

// readPassword is RFC 1929: VER ULEN UNAME PLEN PASSWD, answered by VER STATUS.
func (s *Server) readPassword(ctx context.Context, c *clients.Client, required bool) error {
	var version [1]byte
	if _, err := io.ReadFull(c, version[:]); err != nil {
		return err
	}
	if version[0] != 1 {
		return errSOCKS
	}
	user, err := readBlock(c)
	if err != nil {
		return err
	}
	password, err := readBlock(c)
	if err != nil {
		return err
	}
	if required && !s.clients.Admit(ctx, c, string(user), string(password)) {
		c.Write([]byte{1, 1})
		return errPassword
	}
	_, err = c.Write([]byte{1, 0})
	return err
}

// readBlock reads one byte that says a length, and so many bytes.
func readBlock(r io.Reader) ([]byte, error) {
	var n [1]byte
	if _, err := io.ReadFull(r, n[:]); err != nil {
		return nil, err
	}
	b := make([]byte, n[0])
	_, err := io.ReadFull(r, b)
	return b, err
}

// readAddress reads DST.ADDR and DST.PORT. The error wraps errSOCKS if they are not acceptable.
func readAddress(r io.Reader, kind byte) (reach.Dest, error) {
	var host string
	switch kind {
	case addressIPv4, addressIPv6:
		var b [16]byte
		raw := b[:4]
		if kind == addressIPv6 {
			raw = b[:]
		}
		if _, err := io.ReadFull(r, raw); err != nil {
			return reach.Dest{}, err
		}
		addr, _ := netip.AddrFromSlice(raw)
		host = addr.String()
	case addressName:
		name, err := readBlock(r)
		if err != nil {
			return reach.Dest{}, err
		}
		host = string(name)
	default:
		return reach.Dest{}, errSOCKS
	}
	var port [2]byte
	if _, err := io.ReadFull(r, port[:]); err != nil {
		return reach.Dest{}, err
	}
	d, err := reach.NewDest(host, uint16(port[0])<<8|uint16(port[1]))
	if err != nil {
		return reach.Dest{}, errors.Join(errSOCKS, err)
	}
	return d, nil
}

func (s *Server) connect5(ctx context.Context, c *clients.Client, d reach.Dest) error {
	target, err := s.connect(ctx, d)
	if err != nil {
		writeReply(c, replyTo(err), netip.AddrPort{})
		return err
	}
	if err := writeReply(c, replyOK, netip.AddrPort{}); err != nil {
		target.Close()
		return err
	}
	return s.clients.Join(ctx, c, target)
}

// connect opens a stream to d. Port 0, which SOCKS can say, is no destination.
func (s *Server) connect(ctx context.Context, d reach.Dest) (net.Conn, error) {
	if d.Port == 0 {
		return nil, answer.Errorf(answer.BadRequest, "port 0 is not a destination")
	}
	return s.open(ctx, "tcp", d)
}

// writeReply sends VER REP RSV ATYP BND.ADDR BND.PORT. The bound address of a connection is the exit's and is not told:
// it is 0.0.0.0:0.
func writeReply(w io.Writer, code reply, bound netip.AddrPort) error {
	_, err := w.Write(appendAddress([]byte{5, byte(code), 0}, bound))
	return err
}

// appendAddress appends ATYP, address and port.
func appendAddress(b []byte, a netip.AddrPort) []byte {
	addr := a.Addr().Unmap()
	if !addr.IsValid() {
		addr = netip.IPv4Unspecified()
	}
	kind := byte(addressIPv4)
	if addr.Is6() {
		kind = addressIPv6
	}
	b = append(append(b, kind), addr.AsSlice()...)
	return append(b, byte(a.Port()>>8), byte(a.Port()))
}

// Serve4 serves a connection whose first byte, the version, was read: CD DSTPORT DSTIP USERID NUL, and in 4a, where
// DSTIP is 0.0.0.x, a name and NUL. SOCKS4 knows no passwords: where they are needed, it is refused.
func (s *Server) Serve4(ctx context.Context, c *clients.Client) error {
	var head [7]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return err
	}
	if _, err := readString(c); err != nil {
		return err
	}
	ip := [4]byte(head[3:7])
	host := netip.AddrFrom4(ip).String()
	if ip[0] == 0 && ip[1] == 0 && ip[2] == 0 && ip[3] != 0 {
		name, err := readString(c)
		if err != nil {
			return err
		}
		host = name
	}
	d, err := reach.NewDest(host, uint16(head[1])<<8|uint16(head[2]))
	switch {
	case s.clients.Required():
		writeReply4(c, noUser4)
		return errPassword
	case err != nil || head[0] != commandConnect:
		writeReply4(c, rejected4)
		return errSOCKS
	}
	c.SetDeadline(time.Time{})
	target, err := s.connect(ctx, d)
	if err != nil {
		writeReply4(c, rejected4)
		return err
	}
	if err := writeReply4(c, granted4); err != nil {
		target.Close()
		return err
	}
	return s.clients.Join(ctx, c, target)
}

func writeReply4(w io.Writer, code byte) error {
	_, err := w.Write([]byte{0, code, 0, 0, 0, 0, 0, 0})
	return err
}

// readString reads bytes up to a NUL, at most 255 of them.
func readString(r io.Reader) (string, error) {
	var b [256]byte
	for i := range b {
		if _, err := io.ReadFull(r, b[i:i+1]); err != nil {
			return "", err
		}
		if b[i] == 0 {
			return string(b[:i]), nil
		}
	}
	return "", errSOCKS
}
