// Package udp is a socket for the datagrams of many clients, each of whom gets answers from the
// address to which it wrote:
//
//	Socket.Receive: a datagram, and the Path on which it came  ...  Socket.To(path): sends answers back along it
//
// That matters on a port of all addresses of a machine with several: clients take no answer from
// another address. It works where the system tells, which is on Linux; elsewhere the system picks
// the address, and a machine with several should listen on each of them by itself.
package udp

import (
	"context"
	"net"
	"net/netip"
)

// Socket is a UDP socket that listens. One goroutine receives at a time; everything else may be
// called from any.
type Socket struct {
	*net.UDPConn
	oob []byte // room for what the system says of a datagram, on a socket of all addresses; owned by the receiver
}

// Path is between whom datagrams go.
type Path struct {
	Client netip.AddrPort
	Local  netip.Addr // of this machine; valid on a socket of all addresses, where the system says it
}

// Listen opens a socket. network is "udp", "udp4" or "udp6"; a host that is empty or unspecified
// stands for all addresses.
func Listen(ctx context.Context, network, address string) (*Socket, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	var config net.ListenConfig
	var oob []byte
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		config.Control = controlLocal
		oob = make([]byte, localSpace)
	}
	conn, err := config.ListenPacket(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &Socket{conn.(*net.UDPConn), oob}, nil
}

// Receive reads one datagram. What does not fit into b is lost.
func (s *Socket) Receive(b []byte) (n int, from Path, err error) {
	if len(s.oob) == 0 {
		n, from.Client, err = s.ReadFromUDPAddrPort(b)
		return n, from, err
	}
	n, size, _, client, err := s.ReadMsgUDPAddrPort(b, s.oob)
	return n, Path{client, parseLocal(s.oob[:size])}, err
}

// To returns what sends datagrams to the client of a path, from the address that it wrote to.
func (s *Socket) To(p Path) func(b []byte) error {
	from := formatLocal(p.Local)
	if from == nil {
		return func(b []byte) error {
			_, err := s.WriteToUDPAddrPort(b, p.Client)
			return err
		}
	}
	return func(b []byte) error {
		_, _, err := s.WriteMsgUDPAddrPort(b, from, p.Client)
		return err
	}
}

// Server returns the address that the client of a path writes to.
func (s *Socket) Server(p Path) net.Addr {
	local := s.LocalAddr()
	if a, ok := local.(*net.UDPAddr); ok && p.Local.IsValid() {
		return &net.UDPAddr{IP: p.Local.AsSlice(), Port: a.Port}
	}
	return local
}
