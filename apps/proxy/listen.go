package proxy

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"ztm/apps/listen"
	"ztm/apps/proxy/route"
)

// The entrance's side of a connection:
//
//	1. accept   of a TCP or unix listener; at most maxClients at a time
//	2. sniff    the first byte: 5 is SOCKS5, 4 is SOCKS4, a capital letter is HTTP; nothing else is served
//	3. socks.go or guard.go and http.go: read the request, check the password
//	4. router   open the connection at the right exit
//	5. answer   what the exit said, and join until both directions have ended

const (
	handshakeTimeout = 10 * time.Second // from the first connection to a complete SOCKS request
)

// entrance serves the clients of this endpoint.
type entrance struct {
	clients *clients
	socks   *socksServer
	web     *web
	log     *slog.Logger
}

func newEntrance(r *route.Router, c *credentials, log *slog.Logger) *entrance {
	all := newClients(c, log)
	return &entrance{clients: all, socks: newSOCKS(all, r.Open, log), web: newWeb(all, r, pseudonym(), log), log: log}
}

// clientListener is a service for clients.
type clientListener struct {
	net.Listener
	entrance *entrance
}

// listen opens a listener. A unix socket is for this user alone.
func (s *entrance) listen(ctx context.Context, l listenAddr) (service, error) {
	open := listen.TCP
	if l.network == "unix" {
		open = func(ctx context.Context, _, path string) (net.Listener, error) { return listen.Unix(ctx, path) }
	}
	ln, err := open(ctx, l.network, l.address)
	if err != nil {
		return nil, err
	}
	return &clientListener{ln, s}, nil
}

func (l *clientListener) Bound() string {
	if l.Addr().Network() == "unix" {
		return "unix:" + l.Addr().String()
	}
	return l.Addr().String()
}

// Serve accepts clients until the listener is closed.
func (l *clientListener) Serve(ctx context.Context) {
	var serving sync.WaitGroup
	defer serving.Wait()
	listen.Accept(ctx, l.Listener, l.entrance.log, func(conn net.Conn) {
		c := newClient(conn)
		leave, ok := l.entrance.clients.enter(c)
		if !ok {
			conn.Close()
			return
		}
		serving.Go(func() {
			defer leave()
			l.entrance.serve(ctx, c)
		})
	})
}

// serve handles one client until it is gone.
func (s *entrance) serve(ctx context.Context, c *client) {
	defer c.Close()
	c.SetDeadline(time.Now().Add(handshakeTimeout))
	var first [1]byte
	if _, err := io.ReadFull(c, first[:]); err != nil {
		return
	}
	var err error
	switch {
	case first[0] == 5:
		err = s.socks.serve5(ctx, c)
	case first[0] == 4:
		err = s.socks.serve4(ctx, c)
	case 'A' <= first[0] && first[0] <= 'Z' || first[0] == '\r': // an empty line may come before the request
		s.web.serve(ctx, c, first[0])
		return
	default:
		err = errors.New("neither SOCKS nor HTTP")
	}
	if err != nil {
		s.log.Debug("client refused", "client", c.RemoteAddr().String(), "err", err)
		listen.Linger(c.Conn)
	}
}
