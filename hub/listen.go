package hub

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"time"

	"ztm/hub/admission"
	"ztm/hub/quiet"
	"ztm/hub/state"
	"ztm/tunnel"
	"ztm/tunnel/h2"
	"ztm/tunnel/identity"
	"ztm/tunnel/pause"
)

// The way of a connection into the hub:
//
//  1. accept: a place among the handshakes, which are limited in all and by source
//  2. greet: the TLS handshake, within tunnel.HandshakeTimeout; both certificates are verified in
//     it, and it leaves half of the processors to paths that stand
//  3. the ALPN protocol decides who owns the connection from here on

// listen opens the hub's port: the one that is given, or else the one of the last start. st is nil
// before the first.
func (c *Config) listen(st *state.State) (*net.TCPListener, error) {
	if c.Listen != "" {
		return listen(c.Listen)
	}
	kept, err := st.Listens()
	if err != nil {
		return nil, err
	}
	ln, err := listen(cmp.Or(kept, DefaultListen))
	if err != nil && kept != "" {
		return nil, fmt.Errorf("%w: it is the address of the last start, and --listen names another", err)
	}
	return ln, err
}

// listen opens a port.
func listen(address string) (*net.TCPListener, error) {
	a, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen address %q: %v", address, err)
	}
	network := "tcp"
	if a.IP.To4() != nil {
		network = "tcp4" // with "tcp", 0.0.0.0 would be every IPv6 address, too
	}
	ln, err := net.ListenTCP(network, a)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("address %s is in use by another program: stop it, or choose another with --listen", address)
	case err != nil:
		return nil, fmt.Errorf("cannot listen: %w", err)
	}
	return ln, nil
}

// accept takes connections until ctx ends. It returns once all handshakes that it started have
// finished.
func (s *server) accept(ctx, paths context.Context, ln *net.TCPListener) {
	defer context.AfterFunc(ctx, func() { ln.Close() })()
	var greetings sync.WaitGroup
	defer greetings.Wait()
	var wait time.Duration
	for {
		raw, err := ln.AcceptTCP()
		if err != nil {
			if ctx.Err() != nil {
				return
			}
			// Most likely the file descriptors are used up. Some will become free.
			wait = min(max(2*wait, 5*time.Millisecond), time.Second)
			s.log.Warn("cannot accept connections", "err", err, "again in", wait)
			if !pause.For(ctx, wait) {
				return
			}
			continue
		}
		wait = 0
		c := admission.NewSocket(raw, admission.Source(addrOf(raw).Addr()))
		if !s.welcome(ctx, c) {
			c.Abort()
			continue
		}
		greetings.Go(func() { s.greet(ctx, paths, c) })
	}
}

// welcome applies the limits on the connection's source, and reports whether it may begin a
// handshake. If so, the caller removes it from handshakes again.
func (s *server) welcome(ctx context.Context, c *admission.Socket) bool {
	if !s.connections.Take(c.From, time.Now()) {
		s.metrics.refused.rate.Add(1)
		return false
	}
	if !s.handshakes.Enter(ctx, c) {
		s.metrics.refused.handshakes.Add(1)
		return false
	}
	return true
}

// greet does the handshake and passes the connection to its owner.
func (s *server) greet(ctx, paths context.Context, below *admission.Socket) {
	defer s.handshakes.Leave(below) // if nothing below did
	tunnel.TuneAccepted(below.TCPConn)
	records := &tunnel.RecordConn{Conn: below}
	records.Meter.Turn = s.turns.Of(below.From)
	c, err := s.handshake(ctx, records)
	if err != nil {
		s.metrics.handshakes.failed.Add(1)
		s.log.Debug("handshake failed", "addr", below.RemoteAddr(), "err", err)
		lingeringClose(ctx, below.TCPConn) // the alert says why
		return
	}
	s.metrics.handshakes.ok.Add(1)
	if c.ConnectionState().NegotiatedProtocol == identity.JoinProto {
		defer lingeringClose(ctx, below.TCPConn)
		defer context.AfterFunc(ctx, func() { below.TCPConn.Close() })()
		s.join(ctx, c, below)
		return
	}
	s.handshakes.Leave(below) // from here on it does not give way to another
	s.pass(paths, c, below, records)
}

// pass gives the connection of a member or hub to its owner: a control session, a link, or the relay.
func (s *server) pass(paths context.Context, c *tls.Conn, below *admission.Socket, records *tunnel.RecordConn) {
	// The handshake has verified the certificate. This verifies it again, which yields who it is.
	cs := c.ConnectionState()
	subject, err := s.verifier.Subject(cs, identity.RoleIn(cs.NegotiatedProtocol))
	if err != nil {
		below.TCPConn.Close()
		return
	}
	s.handshakes.Member(below.From, time.Now())
	p := newPeer(subject, below.TCPConn)
	carry := map[string]func(context.Context, *tls.Conn, *peer){tunnel.RelayProto: s.carry, tunnel.HopProto: s.carryHop}
	if serve := carry[cs.NegotiatedProtocol]; serve != nil {
		below.Known(nil)
		s.peers.add(p) // here, so that the shutdown finds it
		s.legs.Go(func() { serve(paths, c, p) })
		return
	}
	below.Known(func() { s.peers.remove(p) })
	s.peers.addControl(p, s.config.Limits.Control)
	if !s.welcomes(p) {
		p.cut()
	}
	s.h2.Serve(&h2.Tagged{Conn: quiet.New(c, records.Gather(), below.TCPConn), Tag: p, RTT: records.Meter.RTT()}) // which owns the connection from here on
}

// lingerTimeout bounds a lingering close.
const lingerTimeout = 2 * time.Second

// lingeringClose closes a connection after the peer has taken what was written last. A close with unread
// bytes would send a reset, which can overtake those bytes.
func lingeringClose(ctx context.Context, raw *net.TCPConn) {
	defer raw.Close()
	defer context.AfterFunc(ctx, func() { raw.Close() })()
	const most = 64 << 10 // bytes that the peer may have sent meanwhile
	raw.CloseWrite()
	raw.SetDeadline(time.Now().Add(lingerTimeout))
	io.CopyN(io.Discard, raw, most)
}

// handshake completes TLS. The connection below is read record by record, so that a relayed path
// can drop the TLS layer.
func (s *server) handshake(ctx context.Context, below *tunnel.RecordConn) (*tls.Conn, error) {
	c := tls.Server(below, s.tls)
	ctx, cancel := context.WithTimeout(ctx, tunnel.HandshakeTimeout)
	defer cancel()
	err := c.HandshakeContext(ctx)
	below.Meter.Over()
	return c, err
}
