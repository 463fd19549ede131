package proxy

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"ztm/apps/listen"
	"ztm/apps/reach"
	"ztm/apps/udp"
	"ztm/tunnel/answer"
	"ztm/tunnel/limit"
)

// The resolver of the entrance, for programs that do not speak to a proxy but need the names:
//
//	1. read      one question, over UDP or TCP (RFC 1035, RFC 7766)
//	2. route     which exit serves the name: as for a connection, but without search domains
//	3. ask       the exit for the records ("resolve"), which it tells as far as its policy permits
//	   forward   the message as it is to the name servers of this device, if no exit serves the name
//	4. answer    with a short lifetime, as nothing is known of the true one

const (
	maxQuestions   = 256              // at work at a time, shared fairly by the clients; further ones are dropped, as the network would
	dnsTimeout     = 5 * time.Second  // for one question
	dnsIdle        = 10 * time.Second // of a TCP connection between two questions
	answerLifetime = 5                // seconds
)

// source has the records of names that exits serve.
type source interface {
	// Records returns what the exit that serves d tells of it; served is false if there is none. The error has code
	// [answer.BadRequest] for a type that exits do not tell.
	Records(ctx context.Context, d reach.Dest, t dnsmessage.Type) (rec records, served bool, err error)
}

// resolver answers DNS questions.
type resolver struct {
	source source
	sys    *system
	log    *slog.Logger
	slots  *limit.Share[netip.Addr] // of questions at work, by client
}

// dnsService is a resolver that listens.
type dnsService struct {
	*resolver
	udp    *udp.Socket
	tcp    net.Listener
	places *limit.Share[netip.Addr] // of TCP connections, by client
	work   sync.WaitGroup
	mu     sync.Mutex
	conns  map[net.Conn]struct{} // guarded by mu; nil when closed
}

// listen opens both sockets on one address; network is "tcp" or "tcp4".
func (r *resolver) listen(ctx context.Context, network, address string) (*dnsService, error) {
	socket, err := udp.Listen(ctx, "udp"+strings.TrimPrefix(network, "tcp"), address)
	if err != nil {
		return nil, err
	}
	tcp, err := listen.TCP(ctx, network, socket.LocalAddr().String())
	if err != nil {
		socket.Close()
		return nil, err
	}
	return &dnsService{resolver: r, udp: socket, tcp: tcp, places: limit.NewShare[netip.Addr](maxQuestions), conns: map[net.Conn]struct{}{}}, nil
}

func (d *dnsService) Bound() string { return d.udp.LocalAddr().String() }

func (d *dnsService) Close() error {
	d.mu.Lock()
	for c := range d.conns {
		c.Close()
	}
	d.conns = nil
	d.mu.Unlock()
	return errors.Join(d.udp.Close(), d.tcp.Close())
}

// Serve answers until Close.
func (d *dnsService) Serve(ctx context.Context) {
	d.work.Go(func() { d.serveUDP(ctx) })
	d.work.Go(func() { d.serveTCP(ctx) })
	d.work.Wait()
}

func (d *dnsService) serveUDP(ctx context.Context) {
	buf := make([]byte, maxMessage)
	for {
		n, from, err := d.udp.Receive(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // of one datagram: Windows reports a client that has gone
		}
		ctx, cancel := context.WithCancel(ctx)
		release, ok := d.slots.Acquire(from.Client.Addr(), cancel)
		if !ok {
			cancel()
			continue
		}
		question := append([]byte(nil), buf[:n]...)
		d.work.Go(func() {
			defer release()
			defer cancel()
			if a := d.answer(ctx, question, "udp"); a != nil {
				d.udp.To(from)(a)
			}
		})
	}
}

func (d *dnsService) serveTCP(ctx context.Context) {
	listen.Accept(ctx, d.tcp, d.log, func(c net.Conn) {
		leave, ok := d.enter(c)
		if !ok {
			c.Close()
			return
		}
		d.work.Go(func() {
			defer leave()
			d.serveConn(ctx, c)
		})
	})
}

// enter files a connection. leave closes it.
func (d *dnsService) enter(c net.Conn) (leave func(), ok bool) {
	release, ok := d.places.Acquire(hostOf(c.RemoteAddr()), func() { c.Close() })
	if !ok {
		return nil, false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.conns == nil {
		release()
		return nil, false
	}
	d.conns[c] = struct{}{}
	return func() {
		c.Close()
		release()
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.conns, c)
	}, true
}

// hostOf returns the address of a client without its port; the zero Addr for one without any, as at a unix socket.
func hostOf(a net.Addr) netip.Addr {
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap()
}

// serveConn answers the questions of a TCP connection in turn. Each has its length before it, in two bytes.
func (d *dnsService) serveConn(ctx context.Context, c net.Conn) {
	for {
		c.SetDeadline(time.Now().Add(dnsIdle))
		question, err := readMessage(c)
		if err != nil {
			return
		}
		a := d.answer(ctx, question, "tcp")
		if a == nil {
			return
		}
		c.SetDeadline(time.Now().Add(dnsIdle))
		if writeMessage(c, a) != nil {
			return
		}
	}
}

// answer returns the answer to a message, or nil if it deserves none.
func (r *resolver) answer(ctx context.Context, message []byte, network string) []byte {
	ctx, cancel := context.WithTimeout(ctx, dnsTimeout)
	defer cancel()
	q, err := readQuestion(message)
	if err != nil {
		return nil
	}
	if q.code != dnsmessage.RCodeSuccess {
		return q.reply(records{}, q.code, network)
	}
	rec, served, err := r.ask(ctx, q)
	switch {
	case !served:
		return r.forward(ctx, message, q, network)
	case err == nil:
		return q.reply(rec, dnsmessage.RCodeSuccess, network)
	}
	r.log.Debug("name not resolved", "err", err)
	code := dnsmessage.RCodeServerFailure
	if answer.CodeOf(err) == answer.BadRequest { // of a type that the exit, perhaps of an older version, does not tell
		code = dnsmessage.RCodeNotImplemented
	}
	return q.reply(records{}, code, network)
}

// ask asks the exit that serves the name; served is false if there is none.
func (r *resolver) ask(ctx context.Context, q question) (_ records, served bool, err error) {
	d, err := reach.NewDest(q.name.String(), 0)
	if err != nil || d.Name == "" {
		return records{}, false, nil
	}
	d.Full = true
	return r.source.Records(ctx, d, q.qtype)
}

// forward asks the name servers of this device and returns the answer as it is. Where it is not known which they are,
// as on Windows, the system's resolver is asked for addresses.
func (r *resolver) forward(ctx context.Context, message []byte, q question, network string) []byte {
	servers, known := r.sys.nameServers()
	if !known {
		rec, err := r.resolveHere(ctx, q)
		if err == nil {
			return q.reply(rec, dnsmessage.RCodeSuccess, network)
		}
	}
	a, err := r.sys.servers.ask(ctx, servers, message, network, r.sys.Dial)
	if a != nil {
		return a
	}
	r.log.Debug("no name server answers", "err", err)
	return q.reply(records{}, dnsmessage.RCodeServerFailure, network)
}

func (r *resolver) resolveHere(ctx context.Context, q question) (records, error) {
	if q.qtype != dnsmessage.TypeA && q.qtype != dnsmessage.TypeAAAA {
		return records{}, errNoServer
	}
	found, err := r.sys.Resolver.LookupNetIP(ctx, "ip", q.name.String())
	if notFound(err) {
		return records{Missing: true}, nil
	}
	var rec records
	for _, a := range found[:min(len(found), maxAddresses)] {
		rec.Addrs = append(rec.Addrs, a.Unmap())
	}
	return rec, err
}
