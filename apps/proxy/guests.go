package proxy

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"ztm/apps/listen"
	"ztm/tunnel/limit"
	"ztm/tunnel/splice"
)

// maxClients is how many connections of clients there may be at a time. Their hosts share them fairly; further ones are
// closed.
const maxClients = 2048

// passwordTimeout is how long a password may wait to be checked.
const passwordTimeout = 10 * time.Second

// clients are the programs that use the listeners: who they are, and how many. Methods may be called from any
// goroutine.
type clients struct {
	credentials *credentials
	log         *slog.Logger
	total       atomic.Int64             // since the start
	places      *limit.Share[netip.Addr] // by host
	notes       *limit.Log               // of what clients can cause

	mu     sync.Mutex
	all    map[*client]struct{} // guarded by mu
	closed bool                 // guarded by mu: no further clients
}

func newClients(c *credentials, log *slog.Logger) *clients {
	return &clients{
		credentials: c, log: log, all: map[*client]struct{}{},
		places: limit.NewShare[netip.Addr](maxClients), notes: limit.NewLog(log),
	}
}

// client is one accepted connection.
type client struct {
	net.Conn
	user string // who gave the password, "" if none was needed; guarded by clients.mu
}

func newClient(c net.Conn) *client { return &client{Conn: c} }

// required reports whether clients have to give a password.
func (s *clients) required() bool { return s.credentials.required() }

// since returns how many clients there were since the start.
func (s *clients) since() int64 { return s.total.Load() }

// enter files a client. The caller calls leave when it is gone.
func (s *clients) enter(c *client) (leave func(), ok bool) {
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
	s.all[c] = struct{}{}
	s.total.Add(1)
	return func() {
		release()
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.all, c)
	}, true
}

// count returns how many clients there are.
func (s *clients) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.all)
}

// admit checks a password and notes who the client is.
func (s *clients) admit(ctx context.Context, c *client, user, password string) bool {
	ctx, cancel := context.WithTimeout(ctx, passwordTimeout)
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
func (s *clients) cut(match func(user string) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.all {
		if match(c.user) {
			splice.Abort(c.Conn)
		}
	}
}

// close ends all clients and lets no more in.
func (s *clients) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.cut(func(string) bool { return true })
}

// join carries the bytes between a client and its target until both directions have ended. It closes both.
func (s *clients) join(ctx context.Context, c *client, target net.Conn) error {
	c.SetDeadline(time.Time{})
	_, _, err := splice.Join(ctx, c.Conn, target)
	if err != nil {
		s.log.Debug("connection ended", "client", c.RemoteAddr().String(), "err", err)
	}
	return nil
}
