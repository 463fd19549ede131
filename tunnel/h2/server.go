package h2

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// Server serves connections that are handed to it. Make it with [NewServer]. It is safe for
// concurrent use.
//
// net/http has one Tuning for a server, so there is one of its servers for each that is in use: a
// handful.
type Server struct {
	handler http.Handler
	tuning  func(rtt time.Duration) Tuning
	log     *slog.Logger
	proto   string // static

	mu     sync.Mutex
	tuned  []*server // guarded by mu
	closed bool      // guarded by mu
}

// server is all connections of one Tuning.
type server struct {
	tuning Tuning
	http   *http.Server
	conns  chan *Tagged  // unbuffered, never closed
	done   chan struct{} // closed by close
	ended  chan struct{} // closed when Serve of net/http has returned
	tag    any           // owned by serve: of the connection that was accepted last
	proto  string        // static
}

type tagKey struct{}

// Tagged is a connection with something the handler can ask for: see [Tag]. Where Conn is a
// *tls.Conn whose handshake has agreed on the protocol of [NewTLSServer], net/http leaves out the
// buffers that it reads an HTTP/1 request with: 8 KiB for each connection.
type Tagged struct {
	net.Conn
	Tag any
	RTT time.Duration // the round trip to the peer; 0 is unknown
}

// Tag returns the Tag of the connection that r came on.
func Tag(r *http.Request) any {
	return r.Context().Value(tagKey{})
}

// NewServer makes a server; it runs until Close. tuning says what to set for a peer at such a round
// trip.
func NewServer(handler http.Handler, tuning func(rtt time.Duration) Tuning, log *slog.Logger) *Server {
	return &Server{handler: handler, tuning: tuning, log: log}
}

// NewTLSServer makes a server of connections that may be a *tls.Conn whose handshake has agreed on
// proto.
func NewTLSServer(proto string, handler http.Handler, tuning func(rtt time.Duration) Tuning, log *slog.Logger) *Server {
	s := NewServer(handler, tuning, log)
	s.proto = proto
	return s
}

// Serve hands a connection to the server, which owns it from then on. It returns at once; a closed
// server closes conn.
func (s *Server) Serve(conn *Tagged) {
	if one := s.of(s.tuning(conn.RTT)); one != nil {
		one.take(conn)
		return
	}
	conn.Close()
}

// of returns the server for a Tuning, nil when closed.
func (s *Server) of(t Tuning) *server {
	t.Frame = leastFrame
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	for _, one := range s.tuned {
		if one.tuning == t {
			return one
		}
	}
	one := newServer(s.proto, s.handler, t, s.log)
	s.tuned = append(s.tuned, one)
	return one
}

// Close closes every connection and waits for the accepting goroutines. Handlers end with their
// connections.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	for _, one := range s.tuned {
		one.close()
	}
}

func newServer(proto string, handler http.Handler, t Tuning, log *slog.Logger) *server {
	var protocols http.Protocols
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	s := &server{tuning: t, proto: proto, conns: make(chan *Tagged), done: make(chan struct{}), ended: make(chan struct{})}
	s.http = &http.Server{
		Handler:           handler,
		Protocols:         &protocols,
		HTTP2:             t.config(),
		ReadHeaderTimeout: 10 * time.Second,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		ConnContext: func(ctx context.Context, _ net.Conn) context.Context {
			return context.WithValue(ctx, tagKey{}, s.tag)
		},
	}
	go s.serve()
	return s
}

func (s *server) serve() {
	defer close(s.ended)
	s.http.Serve(listener{s})
}

func (s *server) take(conn *Tagged) {
	select {
	case s.conns <- conn:
	case <-s.done:
		conn.Close()
	}
}

func (s *server) close() {
	close(s.done)
	s.http.Close()
	<-s.ended
}

// speakProto has net/http speak HTTP/2 under our name of it as under its own, which Serve has set
// up by now.
func (s *server) speakProto() {
	if h := s.http.TLSNextProto; s.proto != "" && h[s.proto] == nil {
		h[s.proto] = h["h2"]
	}
}

type listener struct{ s *server }

func (l listener) Accept() (net.Conn, error) {
	l.s.speakProto()
	select {
	case c := <-l.s.conns:
		l.s.tag = c.Tag // net/http asks for the context next, from this goroutine
		if t, ok := c.Conn.(*tls.Conn); ok && l.s.proto != "" && t.ConnectionState().NegotiatedProtocol == l.s.proto {
			return t, nil
		}
		return plain{c.Conn}, nil
	case <-l.s.done:
		return nil, net.ErrClosed
	}
}

func (l listener) Close() error   { return nil }
func (l listener) Addr() net.Addr { return &net.UnixAddr{Name: "h2", Net: "unix"} }
