package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"
)

// DialServer is how the system's resolver reaches a name server: the best of those that are known, not the one that it
// names, which may be one that is silent. Where the DNS listener of this proxy is the system's name server, a name that
// is asked of an exit must not come back as a question to the exit.
func (s *System) DialServer(ctx context.Context, network, address string) (net.Conn, error) {
	known, _ := s.nameServers()
	timeout := serverRetry
	if len(known) > 1 {
		timeout = serverTry
	}
	if list := s.servers.order(known); len(list) > 0 {
		address = list[0].String()
	}
	server, err := netip.ParseAddrPort(address)
	if err == nil && s.Own(server) {
		return nil, fmt.Errorf("name server %s is this proxy itself", address)
	}
	c, err := s.Dial(ctx, network, address)
	if err != nil {
		s.servers.heard(server, false)
		return nil, err
	}
	w := watchedServer{c, &s.servers, server, timeout}
	if udp, ok := c.(*net.UDPConn); ok {
		return watchedDatagrams{w, udp}, nil
	}
	return w, nil
}

// watchedServer is a connection to a name server that notes whether it answers, and does not wait for long.
type watchedServer struct {
	net.Conn
	servers *servers
	server  netip.AddrPort
	timeout time.Duration
}

// SetDeadline sets a deadline that is near.
func (w watchedServer) SetDeadline(t time.Time) error {
	if near := time.Now().Add(w.timeout); t.IsZero() || t.After(near) {
		t = near
	}
	return w.Conn.SetDeadline(t)
}

func (w watchedServer) Read(b []byte) (int, error) {
	n, err := w.Conn.Read(b)
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		w.servers.heard(w.server, err == nil)
	}
	return n, err
}

// watchedDatagrams is a watchedServer that the resolver takes for a socket of datagrams.
type watchedDatagrams struct {
	watchedServer
	udp *net.UDPConn
}

func (w watchedDatagrams) ReadFrom(b []byte) (int, net.Addr, error)   { return w.udp.ReadFrom(b) }
func (w watchedDatagrams) WriteTo(b []byte, to net.Addr) (int, error) { return w.udp.WriteTo(b, to) }
