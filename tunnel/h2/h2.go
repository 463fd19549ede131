// Package h2 runs HTTP/2 (the standard library's) over a connection that is already authenticated,
// with windows and timeouts chosen for this product, and makes byte streams of its requests.
//
//	Tuning     windows by that and by the memory here          (tuning.go)
//	Client     a connection we dialled -> http.ClientConn
//	Server     a handler -> http.Servers that are fed connections one by one (server.go)
//	Stream     one request, full duplex, as a net.Conn
//
// It knows no certificate: who the peer is, is settled before and handed in.
package h2

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// plain hides the type of a connection: net/http must not find a *tls.Conn and negotiate on it.
type plain struct{ net.Conn }

// Client speaks HTTP/2 as the client on conn, with prior knowledge (RFC 9113 section 3.3). Closing
// the ClientConn closes conn; an error closes conn.
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

// ErrNoDeadline is returned by the deadline methods of a Stream, which has none: the context of its
// request does that.
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

// Open sends req, whose body becomes the writing side of the stream, and waits for the answer. A
// status other than 200 is returned with its response, whose body the caller closes, and no stream.
// ctx governs the opening; the stream lives until Close.
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

// Accept answers a request with status 200 and makes a stream of it. The handler must not return
// before it is done with the stream; returning ends it.
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
