// Package clients knows the programs that use the listeners of a proxy: who they are, and how many.
package clients

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

// Most is how many connections of clients there may be at a time. Their hosts share them fairly; further ones are
// closed.
const Most = 2048

// passwordTimeout is how long a password may wait to be checked.
const passwordTimeout = 10 * time.Second

// List is the clients of one endpoint. Methods may be called from any goroutine.
type List struct {
	credentials *Credentials
	log         *slog.Logger
	total       atomic.Int64             // since the start
	places      *limit.Share[netip.Addr] // by host
	notes       *limit.Log               // of what clients can cause

	mu     sync.Mutex
	all    map[*Client]struct{} // guarded by mu
	closed bool                 // guarded by mu: no further clients
}

// New makes an empty list.
func New(c *Credentials, log *slog.Logger) *List {
	return &List{
		credentials: c, log: log, all: map[*Client]struct{}{},
		places: limit.NewShare[netip.Addr](Most), notes: limit.NewLog(log),
	}
}

// Client is one accepted connection.
type Client struct {
	net.Conn
	user string // who gave the password, "" if none was needed; guarded by List.mu
}

// NewClient makes a client of a connection that was accepted.
func NewClient(c net.Conn) *Client { return &Client{Conn: c} }

// Required reports whether clients have to give a password.
func (s *List) Required() bool { return s.credentials.required() }

// Total returns how many clients there were since the start.
func (s *List) Total() int64 { return s.total.Load() }

// Enter files a client. The caller calls leave when it is gone.
func (s *List) Enter(c *Client) (leave func(), ok bool) {
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

// Count returns how many clients there are.
func (s *List) Count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.all)
}

// Admit checks a password and notes who the client is.
func (s *List) Admit(ctx context.Context, c *Client, user, password string) bool {
	ctx, cancel := context.WithTimeout(ctx, passwordTimeout)
	defer cancel()
	s.mu.Lock()
	c.user = user // before the check: from here on, a change of the password cuts this client
	s.mu.Unlock()
	if !s.credentials.Check(ctx, user, password) {
		s.notes.Info(listen.HostOf(c.RemoteAddr()).String(), "wrong password for the proxy", "user", user, "client", c.RemoteAddr().String())
		return false
	}
	return true
}

// Cut ends the clients for which the function says so.
func (s *List) Cut(match func(user string) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.all {
		if match(c.user) {
			splice.Abort(c.Conn)
		}
	}
}

// Close ends all clients and lets no more in.
func (s *List) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.Cut(func(string) bool { return true })
}

// Join carries the bytes between a client and its target until both directions have ended. It closes both.
func (s *List) Join(ctx context.Context, c *Client, target net.Conn) error {
	c.SetDeadline(time.Time{})
	_, _, err := splice.Join(ctx, c.Conn, target)
	if err != nil {
		s.log.Debug("connection ended", "client", c.RemoteAddr().String(), "err", err)
	}
	return nil
}
