package h2

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"
)

// Server serves requests on connections that are handed to it. Make it with [NewServer]. It is safe
// for concurrent use.
type Server struct {
	handler http.Handler
	options func(rtt time.Duration) Options
	life    context.Context // of all requests
	stop    context.CancelFunc

	mu     sync.Mutex
	conns  map[*Conn]struct{} // guarded by mu
	closed bool               // guarded by mu
}

// Tagged is a connection with something that the handler can ask for: see [Tag].
type Tagged struct {
	net.Conn
	Tag any
	RTT time.Duration // the round trip to the peer; 0 is unknown
}

// Tag returns the Tag of the connection that r came on.
func Tag(r *http.Request) any { return StreamOf(r).conn.o.Tag }

// NewServer makes a server; it runs until Close. options are those of a connection to a peer at
// such a round trip.
func NewServer(handler http.Handler, options func(rtt time.Duration) Options) *Server {
	s := &Server{handler: handler, options: options, conns: map[*Conn]struct{}{}}
	s.life, s.stop = context.WithCancel(context.Background())
	return s
}

// Serve hands a connection to the server, which owns it from then on. It returns at once; a closed
// server closes conn.
func (s *Server) Serve(conn *Tagged) {
	o := s.options(conn.RTT)
	o.RTT, o.Tag = conn.RTT, conn.Tag
	o.Handler = Handler(s.life, s.handler)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		conn.Close()
		return
	}
	var c *Conn
	o.over = func() { // in a goroutine of its own
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.conns, c)
	}
	c = newConn(conn.Conn, false, o)
	s.conns[c] = struct{}{}
}

// Retire tells the peers of connections whose Tag matches to open no more streams there. Those that
// are open go on (RFC 9113 section 6.8).
func (s *Server) Retire(match func(tag any) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		if match(c.o.Tag) {
			c.retire()
		}
	}
}

// Close closes every connection, and returns when the handlers have ended with them.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	var all []*Conn
	for c := range s.conns {
		all = append(all, c)
	}
	s.mu.Unlock()
	for _, c := range all {
		c.Close()
	}
	s.stop()
	for _, c := range all {
		c.Wait()
	}
}
