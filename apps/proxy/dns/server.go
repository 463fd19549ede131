// Package dns answers the questions of programs that do not speak to a proxy but need the names of the mesh, and asks
// the name servers of this device. The way of one question to the entrance:
//
//  1. read      one question, over UDP or TCP (RFC 1035, RFC 7766)                             server.go question.go
//  2. source    which exit serves the name, and what does it tell? (package route)
//     forward   the message as it is to the name servers here, if no exit serves the name      upstream.go
//  3. reply     with a short lifetime, as nothing is known of the true one                     question.go
//
// An exit asks its own name servers: upstream.go, raw.go. Policies are none of this package's business.
package dns

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

// Limits of a [Server].
const (
	MaxQuestions   = 256              // at work at a time, shared fairly by the clients; further ones are dropped, as the network would
	Timeout        = 5 * time.Second  // for one question
	dnsIdle        = 10 * time.Second // of a TCP connection between two questions
	answerLifetime = 5                // seconds
)

// Source has the records of names that exits serve.
type Source interface {
	// Records returns what the exit that serves d tells of it; served is false if there is none. The error has code
	// [answer.BadRequest] for a type that exits do not tell.
	Records(ctx context.Context, d reach.Dest, t dnsmessage.Type) (rec Records, served bool, err error)
}

// Server answers DNS questions.
type Server struct {
	source Source
	sys    *System
	log    *slog.Logger
	slots  *limit.Share[netip.Addr] // of questions at work, by client
}

// Listener is a resolver that listens.
type Listener struct {
	*Server
	udp    *udp.Socket
	tcp    net.Listener
	places *limit.Share[netip.Addr] // of TCP connections, by client
	work   sync.WaitGroup
	mu     sync.Mutex
	conns  map[net.Conn]struct{} // guarded by mu; nil when closed
}

// NewServer makes a resolver that logs to log.
func NewServer(s Source, sys *System, log *slog.Logger) *Server {
	return &Server{source: s, sys: sys, log: log, slots: limit.NewShare[netip.Addr](MaxQuestions)}
}

// Listen opens both sockets on one address; network is "tcp" or "tcp4". Where the system chooses the port, it does so
// for UDP, and the port may be taken for TCP: then it chooses again.
func (r *Server) Listen(ctx context.Context, network, address string) (*Listener, error) {
	tries := 1
	if _, port, _ := net.SplitHostPort(address); port == "0" {
		tries = 10
	}
	for {
		tries--
		d, err := r.listen(ctx, network, address)
		if err == nil || tries == 0 {
			return d, err
		}
	}
}

func (r *Server) listen(ctx context.Context, network, address string) (*Listener, error) {
	socket, err := udp.Listen(ctx, "udp"+strings.TrimPrefix(network, "tcp"), address)
	if err != nil {
		return nil, err
	}
	tcp, err := listen.TCP(ctx, network, socket.LocalAddr().String())
	if err != nil {
		socket.Close()
		return nil, err
	}
	return &Listener{Server: r, udp: socket, tcp: tcp, places: limit.NewShare[netip.Addr](MaxQuestions), conns: map[net.Conn]struct{}{}}, nil
}

func (d *Listener) Bound() string { return d.udp.LocalAddr().String() }

func (d *Listener) Close() error {
	d.mu.Lock()
	for c := range d.conns {
		c.Close()
	}
	d.conns = nil
	d.mu.Unlock()
	return errors.Join(d.udp.Close(), d.tcp.Close())
}

// Serve answers until Close.
func (d *Listener) Serve(ctx context.Context) {
	d.work.Go(func() { d.serveUDP(ctx) })
	d.work.Go(func() { d.serveTCP(ctx) })
	d.work.Wait()
}

func (d *Listener) serveUDP(ctx context.Context) {
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

func (d *Listener) serveTCP(ctx context.Context) {
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
func (d *Listener) enter(c net.Conn) (leave func(), ok bool) {
	release, ok := d.places.Acquire(listen.HostOf(c.RemoteAddr()), func() { c.Close() })
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

// serveConn answers the questions of a TCP connection in turn. Each has its length before it, in two bytes.
func (d *Listener) serveConn(ctx context.Context, c net.Conn) {
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
func (r *Server) answer(ctx context.Context, message []byte, network string) []byte {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	q, err := readQuestion(message)
	if err != nil {
		return nil
	}
	if q.code != dnsmessage.RCodeSuccess {
		return q.reply(Records{}, q.code, network)
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
	return q.reply(Records{}, code, network)
}

// ask asks the exit that serves the name; served is false if there is none.
func (r *Server) ask(ctx context.Context, q question) (_ Records, served bool, err error) {
	d, err := reach.NewDest(q.name.String(), 0)
	if err != nil || d.Name == "" {
		return Records{}, false, nil
	}
	d.Full = true
	return r.source.Records(ctx, d, q.qtype)
}

// forward asks the name servers of this device and returns the answer as it is. Where it is not known which they are,
// as on Windows, the system's resolver is asked for addresses.
func (r *Server) forward(ctx context.Context, message []byte, q question, network string) []byte {
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
	return q.reply(Records{}, dnsmessage.RCodeServerFailure, network)
}

func (r *Server) resolveHere(ctx context.Context, q question) (Records, error) {
	if q.qtype != dnsmessage.TypeA && q.qtype != dnsmessage.TypeAAAA {
		return Records{}, errNoServer
	}
	found, err := r.sys.Resolver.LookupNetIP(ctx, "ip", q.name.String())
	if NotFound(err) {
		return Records{Missing: true}, nil
	}
	var rec Records
	for _, a := range found[:min(len(found), MaxAddresses)] {
		rec.Addrs = append(rec.Addrs, a.Unmap())
	}
	return rec, err
}
