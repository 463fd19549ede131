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
	"ztm/apps/proxy/clients"
	"ztm/apps/proxy/route"
	"ztm/apps/proxy/socks"
	"ztm/apps/proxy/web"
)

// The entrance's side of a connection:
//
//	1. accept   of a TCP or unix listener; at most [clients.Most] at a time
//	2. sniff    the first byte: 5 is SOCKS5, 4 is SOCKS4, a capital letter is HTTP; nothing else is served
//	3. socks    or web: read the request, check the password
//	4. route    open the connection at the right exit
//	5. answer   what the exit said, and join until both directions have ended

// handshakeTimeout is how long a client may take from its connection to a complete SOCKS request.
const handshakeTimeout = 10 * time.Second

// entrance serves the clients of this endpoint.
type entrance struct {
	clients *clients.List
	socks   *socks.Server
	web     *web.Server
	log     *slog.Logger
}

func newEntrance(r *route.Router, c *clients.Credentials, log *slog.Logger) *entrance {
	all := clients.New(c, log)
	return &entrance{clients: all, socks: socks.New(all, r.Open, log), web: web.New(all, r, pseudonym(), log), log: log}
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
		c := clients.NewClient(conn)
		leave, ok := l.entrance.clients.Enter(c)
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
func (s *entrance) serve(ctx context.Context, c *clients.Client) {
	defer c.Close()
	c.SetDeadline(time.Now().Add(handshakeTimeout))
	var first [1]byte
	if _, err := io.ReadFull(c, first[:]); err != nil {
		return
	}
	var err error
	switch {
	case first[0] == 5:
		err = s.socks.Serve5(ctx, c)
	case first[0] == 4:
		err = s.socks.Serve4(ctx, c)
	case 'A' <= first[0] && first[0] <= 'Z' || first[0] == '\r': // an empty line may come before the request
		s.web.Serve(ctx, c, first[0])
		return
	default:
		err = errors.New("neither SOCKS nor HTTP")
	}
	if err != nil {
		s.log.Debug("client refused", "client", c.RemoteAddr().String(), "err", err)
		listen.Linger(c.Conn)
	}
}
