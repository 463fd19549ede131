// Package h2 runs HTTP/2 (the standard library's) over a connection that is already authenticated, with windows and
// timeouts chosen for this product, and makes byte streams of its requests.
//
//	Client   a connection we dialled -> http.ClientConn
//	Server   a handler              -> http.Server that is fed connections one by one
//	Stream   one request, full duplex, as a net.Conn
//
// It knows no certificate: who the peer is, is settled before and handed in.
package h2

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"ztm/tunnel/memory"
)

// Tuning is what the two ends of a connection set. The zero value is not useful; start from [Control] or [Sealed].
type Tuning struct {
	ConnWindow   int           // bytes the peer may send unread on the connection
	StreamWindow int           // bytes the peer may send unread on one stream
	Frame        int           // largest frame we read; clients only, for servers see leastFrame
	MaxStreams   int           // requests the peer may have open at once; servers only
	Table        int           // bytes of header compression state, each way; 0 means 4096
	PingAfter    time.Duration // silence after which we ask whether the peer lives
	PingTimeout  time.Duration // how long we wait for its answer
	WriteTimeout time.Duration // how long a write may make no progress at all
}

// scarce is how many times smaller windows are where memory is scarce. What a stalled reader leaves unread there is then half
// a megabyte for each session at most; a router's processor seals less than fits into that in a round trip of 100 ms.
const scarce = 8

// within returns the tuning for a machine with so much memory.
func (t Tuning) within(l memory.Limit) Tuning {
	if l.Small() {
		t.ConnWindow, t.StreamWindow = max(t.ConnWindow/scarce, 64<<10), max(t.StreamWindow/scarce, 64<<10)
		t.Frame, t.MaxStreams = leastFrame, max(t.MaxStreams/scarce, 64)
	}
	return t
}

// leastFrame is the largest frame that a server reads, in bytes, and the least that RFC 9113 section 4.2 lets it be: a Go client keeps a buffer
// of this size for each open request.
const leastFrame = 16 << 10

// Control is for the session between agent and hub: little data, many of them on one hub, and at rest under 1 MB a day:
// one PING of 17 bytes every 45 s and its answer.
func Control() Tuning {
	return Tuning{
		ConnWindow: 256 << 10, StreamWindow: 128 << 10, Frame: leastFrame, MaxStreams: 64, Table: 1,
		PingAfter: 45 * time.Second, PingTimeout: 15 * time.Second, WriteTimeout: 15 * time.Second,
	}.within(memory.Here())
}

// Sealed is for the session between two agents. It carries the flows, and a dead peer is found within 15 s. A write
// that makes no progress is not an error there: it is a reader that has stopped, and the writer waits.
func Sealed() Tuning {
	return Tuning{
		ConnWindow: 4<<20 - 1, StreamWindow: 1 << 20, Frame: 2*16384 - 9, MaxStreams: 1024,
		PingAfter: 10 * time.Second, PingTimeout: 5 * time.Second,
	}.within(memory.Here())
}

func (t Tuning) config() *http.HTTP2Config {
	return &http.HTTP2Config{
		MaxConcurrentStreams:          t.MaxStreams,
		MaxReadFrameSize:              t.Frame,
		MaxReceiveBufferPerConnection: t.ConnWindow,
		MaxReceiveBufferPerStream:     t.StreamWindow,
		MaxDecoderHeaderTableSize:     t.Table,
		MaxEncoderHeaderTableSize:     t.Table,
		SendPingTimeout:               t.PingAfter,
		PingTimeout:                   t.PingTimeout,
		WriteByteTimeout:              t.WriteTimeout,
	}
}

// plain hides the type of a connection: net/http must not find a *tls.Conn and negotiate on it.
type plain struct{ net.Conn }

// Client speaks HTTP/2 as the client on conn, with prior knowledge (RFC 9113 section 3.3). Closing the ClientConn
// closes conn; an error closes conn.
func Client(ctx context.Context, conn net.Conn, t Tuning) (*http.ClientConn, error) {
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	tr := &http.Transport{
		Protocols:          &protocols,
		HTTP2:              t.config(),
		DisableCompression: true,
		DialContext:        func(context.Context, string, string) (net.Conn, error) { return plain{conn}, nil },
	}
	cc, err := tr.NewClientConn(ctx, "http", "peer:80")
	if err != nil {
		conn.Close()
		return nil, err
	}
	return cc, nil
}

// Server serves connections that are handed to it. Make it with [NewServer].
type Server struct {
	http  *http.Server
	conns chan *Tagged  // unbuffered, never closed
	done  chan struct{} // closed by Close
	once  sync.Once
	ended chan struct{} // closed when Serve of net/http has returned
	tag   any           // owned by serve: of the connection that was accepted last
}

type tagKey struct{}

// Tagged is a connection with something the handler can ask for: see [Tag]. Where Conn is a *tls.Conn whose handshake
// has agreed on "h2", net/http spares the buffers that it reads an HTTP/1 request with: 8 KiB for each connection.
type Tagged struct {
	net.Conn
	Tag any
}

// Tag returns the Tag of the connection that r came on.
func Tag(r *http.Request) any {
	return r.Context().Value(tagKey{})
}

// NewServer makes a server; it runs until Close.
func NewServer(handler http.Handler, t Tuning, log *slog.Logger) *Server {
	var protocols http.Protocols
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	t.Frame = leastFrame
	s := &Server{conns: make(chan *Tagged), done: make(chan struct{}), ended: make(chan struct{})}
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

func (s *Server) serve() {
	defer close(s.ended)
	s.http.Serve(listener{s})
}

// Serve hands a connection to the server, which owns it from then on. It returns at once; a closed server closes conn.
func (s *Server) Serve(conn *Tagged) {
	select {
	case s.conns <- conn:
	case <-s.done:
		conn.Close()
	}
}

// Close closes every connection and waits for the accepting goroutine. Handlers end with their connections.
func (s *Server) Close() {
	s.once.Do(func() { close(s.done) })
	s.http.Close()
	<-s.ended
}

// Shutdown lets running requests end until ctx does, then closes.
func (s *Server) Shutdown(ctx context.Context) {
	s.once.Do(func() { close(s.done) })
	s.http.Shutdown(ctx)
	s.Close()
}

type listener struct{ s *Server }

func (l listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.s.conns:
		l.s.tag = c.Tag // net/http asks for the context next, from this goroutine
		if t, ok := c.Conn.(*tls.Conn); ok && t.ConnectionState().NegotiatedProtocol == "h2" {
			return t, nil
		}
		return plain{c.Conn}, nil
	case <-l.s.done:
		return nil, net.ErrClosed
	}
}
func (l listener) Close() error   { return nil }
func (l listener) Addr() net.Addr { return &net.UnixAddr{Name: "h2", Net: "unix"} }

// ErrNoDeadline is returned by the deadline methods of a Stream, which has none: the context of its request does that.
var ErrNoDeadline = errors.New("a stream has no deadlines")

// Stream is one request as a connection. It implements net.Conn but for deadlines.
type Stream struct {
	io.Reader
	io.Writer
	close  func() error
	once   sync.Once
	remote string
}

var _ net.Conn = (*Stream)(nil)

// Close ends both directions at once.
func (s *Stream) Close() (err error) {
	s.once.Do(func() { err = s.close() })
	return err
}

func (s *Stream) LocalAddr() net.Addr              { return addr("stream") }
func (s *Stream) RemoteAddr() net.Addr             { return addr(s.remote) }
func (s *Stream) SetDeadline(time.Time) error      { return ErrNoDeadline }
func (s *Stream) SetReadDeadline(time.Time) error  { return ErrNoDeadline }
func (s *Stream) SetWriteDeadline(time.Time) error { return ErrNoDeadline }

type addr string

func (a addr) Network() string { return "h2" }
func (a addr) String() string  { return string(a) }

// Open sends req, whose body becomes the writing side of the stream, and waits for the answer. A status other than 200
// is returned with its response, whose body the caller closes, and no stream. ctx governs the opening; the stream lives until Close.
func Open(ctx context.Context, cc *http.ClientConn, req *http.Request) (*Stream, *http.Response, error) {
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	pr, pw := io.Pipe()
	req = req.WithContext(life)
	req.Body = pr
	stop := context.AfterFunc(ctx, cancel)
	resp, err := cc.RoundTrip(req)
	if !stop() && err == nil {
		resp.Body.Close()
		err = context.Cause(ctx)
	}
	if err != nil {
		cancel()
		pr.Close()
		return nil, nil, err
	}
	if resp.StatusCode != http.StatusOK {
		pr.Close()
		resp.Body = bodyCloser{resp.Body, cancel}
		return nil, resp, nil
	}
	s := &Stream{Reader: resp.Body, Writer: pw, remote: req.Host}
	s.close = func() error {
		cancel()
		pw.CloseWithError(net.ErrClosed)
		return resp.Body.Close()
	}
	return s, resp, nil
}

type bodyCloser struct {
	io.ReadCloser
	cancel context.CancelFunc
}

func (b bodyCloser) Close() error {
	defer b.cancel()
	return b.ReadCloser.Close()
}

// Accept answers a request with status 200 and makes a stream of it. The handler must not return before it is done
// with the stream; returning ends it.
func Accept(w http.ResponseWriter, r *http.Request) (*Stream, error) {
	rc := http.NewResponseController(w)
	w.WriteHeader(http.StatusOK)
	if err := rc.Flush(); err != nil {
		return nil, err
	}
	s := &Stream{Reader: r.Body, Writer: flushWriter{w, rc}, remote: r.RemoteAddr}
	s.close = func() error { // wakes both directions; net/http resets the stream when the handler returns
		past := time.Unix(1, 0)
		return errors.Join(rc.SetReadDeadline(past), rc.SetWriteDeadline(past))
	}
	return s, nil
}

type flushWriter struct {
	w  io.Writer
	rc *http.ResponseController
}

func (f flushWriter) Write(p []byte) (int, error) {
	n, err := f.w.Write(p)
	if err == nil {
		err = f.rc.Flush()
	}
	return n, err
}
