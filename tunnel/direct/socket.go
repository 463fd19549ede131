package direct

import (
	"net"
	"net/netip"
)

// Socket is a UDP socket that is not connected.
type Socket interface {
	net.PacketConn

	// Connect closes the socket, and makes one of its port that takes packets of one place alone. Where
	// that fails the socket is closed all the same.
	Connect(to netip.AddrPort) (net.Conn, error)
}

// socket is one of the system.
type socket struct{ *net.UDPConn }

// OpenSocket opens a socket at a port that the system picks.
func OpenSocket() (Socket, error) {
	c, err := net.ListenUDP("udp", nil)
	if err != nil {
		return nil, err
	}
	return socket{c}, nil
}

func (s socket) Connect(to netip.AddrPort) (net.Conn, error) {
	port := s.LocalAddr().(*net.UDPAddr).Port
	s.Close()
	return net.DialUDP("udp", &net.UDPAddr{Port: port}, net.UDPAddrFromAddrPort(to))
}
