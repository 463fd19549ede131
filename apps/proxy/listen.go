package proxy

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"ztm/apps/listen"
	"ztm/apps/proxy/route"
	"ztm/tunnel/limit"
	"ztm/tunnel/splice"
)

// The entrance's side of a connection:
//
//	1. accept   of a TCP or unix listener; at most maxClients at a time
//	2. sniff    the first byte: 5 is SOCKS5, 4 is SOCKS4, a capital letter is HTTP; nothing else is served
//	3. socks.go or guard.go and http.go: read the request, check the password
//	4. router   open the connection at the right exit
//	5. answer   what the exit said, and join until both directions have ended

const (
	maxClients       = 2048             // connections at a time, shared fairly by the hosts of the clients; further ones are closed
	handshakeTimeout = 10 * time.Second // from the first connection to a complete SOCKS request
	idleTimeout      = 2 * time.Minute  // of an HTTP connection between two requests
)

// entrance serves the clients of this endpoint.
type entrance struct {
	router      *route.Router
	credentials *credentials
	log         *slog.Logger
	web         *web
	total       atomic.Int64 // clients since the start
	legs        *limit.Share[*association]
	places      *limit.Share[netip.Addr] // of clients, by host
	notes       *limit.Log               // of what clients can cause

	mu      sync.Mutex
	clients map[*client]struct{} // guarded by mu
	closed  bool                 // guarded by mu: no further clients
}

func newEntrance(r *route.Router, c *credentials, log *slog.Logger) *entrance {
	s := &entrance{
		router: r, credentials: c, log: log, clients: map[*client]struct{}{}, legs: limit.NewShare[*association](maxLegs),
		places: limit.NewShare[netip.Addr](maxClients), notes: limit.NewLog(log),
	}
	s.web = newWeb(s, pseudonym())
	return s
}

// client is one accepted connection.
type client struct {
	net.Conn
	user string // who gave the password, "" if none was needed; guarded by entrance.mu
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
		c := &client{Conn: conn}
		leave, ok := l.entrance.enter(c)
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

// enter files a client. The caller calls leave when it is gone.
func (s *entrance) enter(c *client) (leave func(), ok bool) {
	release, ok := s.places.Acquire(listen.HostOf(c.RemoteAddr()), func() { splice.Abort(c.Conn) })
	if !ok {
		return nil, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		release()
		return nil, false
	}
	s.clients[c] = struct{}{}
	s.total.Add(1)
	return func() {
		release()
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.clients, c)
	}, true
}

// count returns how many clients there are.
func (s *entrance) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.clients)
}

// admit checks a password and notes who the client is.
func (s *entrance) admit(ctx context.Context, c *client, user, password string) bool {
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	s.mu.Lock()
	c.user = user // before the check: from here on, a change of the password cuts this client
	s.mu.Unlock()
	if !s.credentials.check(ctx, user, password) {
		s.notes.Info(listen.HostOf(c.RemoteAddr()).String(), "wrong password for the proxy", "user", user, "client", c.RemoteAddr().String())
		return false
	}
	return true
}

// cut ends the clients for which the function says so.
func (s *entrance) cut(match func(user string) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.clients {
		if match(c.user) {
			splice.Abort(c.Conn)
		}
	}
}

// close ends all clients and lets no more in.
func (s *entrance) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.cut(func(string) bool { return true })
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
		err = s.serveSOCKS5(ctx, c)
	case first[0] == 4:
		err = s.serveSOCKS4(ctx, c)
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

// join carries the bytes between a client and its target until both directions have ended. It closes both.
func (s *entrance) join(ctx context.Context, c *client, target net.Conn) error {
	c.SetDeadline(time.Time{})
	_, _, err := splice.Join(ctx, c.Conn, target)
	if err != nil {
		s.log.Debug("connection ended", "client", c.RemoteAddr().String(), "err", err)
	}
	return nil
}
