package socks

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	"ztm/apps"
	"ztm/apps/proxy/clients"
	"ztm/apps/proxy/relay"
	"ztm/apps/reach"
)

// SOCKS5 UDP ASSOCIATE (RFC 1928 sections 6 and 7). The way of a datagram:
//
//	client's UDP socket -> association: only from the address of the TCP connection, and from one port: the one that
//	                       the client announced in its request, or else that of its first good datagram
//	                    -> leg, one for each destination: a queue, a flow of datagrams to the exit
//	                    -> target
//
// and back through the same leg. The association ends with its TCP connection, a leg when it is silent.

const (
	MaxLegs        = 512       // of all associations, shared fairly: each costs a flow and a buffer for the largest datagram
	legQueue       = 16        // datagrams that wait while the exit connects; further ones are dropped
	maxPacket      = 1<<16 - 1 // bytes of a datagram with its header
	maxQueuedBytes = 256 << 10 // of one association, in all its queues; further datagrams are dropped
)

// association is one UDP ASSOCIATE.
type association struct {
	server *Server
	socket *net.UDPConn
	host   netip.Addr     // of the client
	port   uint16         // that the client announced; 0 if it did not
	client netip.AddrPort // owned by run until the first leg is made, constant from then on
	queued atomic.Int64   // bytes in all queues

	mu   sync.Mutex
	legs map[string]*leg // guarded by mu; by the destination as the client wrote it
	work sync.WaitGroup
}

// leg carries the datagrams between the client and one destination.
type leg struct {
	dest   reach.Dest
	header []byte      // of every datagram to the client
	queue  chan []byte // capacity legQueue, never closed
}

// associate serves the command. announced is from where the client says that its datagrams will come.
func (s *Server) associate(ctx context.Context, c *clients.Client, announced reach.Dest) error {
	local, okLocal := c.LocalAddr().(*net.TCPAddr)
	remote, okRemote := c.RemoteAddr().(*net.TCPAddr)
	if !okLocal || !okRemote { // a unix socket: there is no address to send datagrams to
		return writeReply(c, replyBadCommand, netip.AddrPort{})
	}
	socket, err := net.ListenUDP("udp", &net.UDPAddr{IP: local.IP, Zone: local.Zone})
	if err != nil {
		writeReply(c, replyFailure, netip.AddrPort{})
		return err
	}
	defer socket.Close()
	if err := writeReply(c, replyOK, socket.LocalAddr().(*net.UDPAddr).AddrPort()); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	a := &association{server: s, socket: socket, host: remote.AddrPort().Addr().Unmap(), legs: map[string]*leg{}}
	a.port = a.portOf(announced)
	defer a.work.Wait()
	defer cancel()
	a.work.Go(func() {
		io.Copy(io.Discard, c) // "terminates when the TCP connection that the UDP ASSOCIATE request arrived on terminates"
		cancel()
		socket.Close()
	})
	a.run(ctx)
	c.Close()
	return nil
}

// portOf returns the port that a request announces: "the desired destination address and port [...] the client expects
// to use to send UDP datagrams on". An address that is not the client's as it is seen here is one behind a translator, or
// a mistake, and its port says nothing.
func (a *association) portOf(announced reach.Dest) uint16 {
	if announced.Name == "" && (announced.Addr.IsUnspecified() || announced.Addr == a.host.WithZone("")) {
		return announced.Port
	}
	return 0
}

// run reads datagrams of the client until the socket is closed. Only a good one decides which socket is the client's.
func (a *association) run(ctx context.Context) {
	buf := make([]byte, maxPacket)
	for {
		n, from, err := a.socket.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil || !a.mayBe(from) {
			continue
		}
		if d, header, payload, ok := readDatagramHeader(buf[:n]); ok {
			if !a.client.IsValid() { // constant from here on: legs read it
				a.client = from
			}
			a.send(ctx, d, header, payload)
		}
	}
}

// mayBe reports whether a datagram from there can be the client's.
func (a *association) mayBe(from netip.AddrPort) bool {
	switch {
	case from.Addr().Unmap() != a.host:
		return false
	case a.port != 0:
		return from.Port() == a.port
	}
	return !a.client.IsValid() || from == a.client
}

// readDatagramHeader reads RSV RSV FRAG ATYP DST.ADDR DST.PORT DATA. Fragments are dropped, as the RFC lets us.
func readDatagramHeader(b []byte) (d reach.Dest, header, payload []byte, ok bool) {
	if len(b) < 4 || b[0] != 0 || b[1] != 0 || b[2] != 0 {
		return reach.Dest{}, nil, nil, false
	}
	r := bytes.NewReader(b[4:])
	d, err := readAddress(r, b[3])
	if err != nil || d.Port == 0 {
		return reach.Dest{}, nil, nil, false
	}
	size := len(b) - r.Len()
	return d, b[:size], b[size:], len(b)-size <= apps.MaxDatagram
}

// send queues a datagram for its destination, or drops it. It keeps nothing of header and payload.
func (a *association) send(ctx context.Context, d reach.Dest, header, payload []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	l := a.legLocked(ctx, d, header)
	if l == nil || a.queued.Load()+int64(len(payload)) > maxQueuedBytes {
		return
	}
	select {
	case l.queue <- bytes.Clone(payload):
		a.queued.Add(int64(len(payload)))
	default:
	}
}

// legLocked returns the leg to a destination, a new one if need be, or nil if there are too many.
func (a *association) legLocked(ctx context.Context, d reach.Dest, header []byte) *leg {
	if l := a.legs[string(header)]; l != nil {
		return l
	}
	ctx, cancel := context.WithCancel(ctx)
	release, ok := a.server.legs.Acquire(a, cancel)
	if !ok {
		cancel()
		return nil
	}
	l := &leg{dest: d, header: bytes.Clone(header), queue: make(chan []byte, legQueue)}
	a.legs[string(header)] = l
	a.work.Go(func() {
		defer release()
		defer cancel()
		a.carry(ctx, l)
		a.drop(l)
	})
	return l
}

// drop forgets a leg that has ended, and what waits in its queue.
func (a *association) drop(l *leg) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.legs, string(l.header))
	for {
		select {
		case b := <-l.queue:
			a.queued.Add(-int64(len(b)))
		default:
			return
		}
	}
}

// carry opens the flow of a leg and carries datagrams both ways until it is silent or ctx ends.
func (a *association) carry(ctx context.Context, l *leg) {
	flow, err := a.server.open(ctx, "udp", l.dest)
	if err != nil {
		a.server.log.Debug("datagrams dropped", "client", a.client.String(), "err", err)
		return
	}
	near := &legConn{association: a, leg: l, closed: make(chan struct{})}
	relay.Datagrams(ctx, near, flow)
}

// legConn is the client's end of a leg as a connection of datagrams.
type legConn struct {
	*association
	*leg
	once   sync.Once
	closed chan struct{} // closed by Close
}

func (c *legConn) Read(p []byte) (int, error) {
	select {
	case b := <-c.queue:
		c.queued.Add(-int64(len(b)))
		return copy(p, b), nil
	case <-c.closed:
		return 0, net.ErrClosed
	}
}

func (c *legConn) Write(p []byte) (int, error) {
	_, err := c.socket.WriteToUDPAddrPort(append(bytes.Clone(c.header), p...), c.client)
	return len(p), err
}

func (c *legConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return nil
}
