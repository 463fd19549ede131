package h2

import (
	"context"
	"io"
	"net/http"
	"time"

	"ztm/tunnel/h2/wire"
)

// streamKey is the key of a request's stream in its context.
type streamKey struct{}

// StreamOf returns the stream on which a request came, for a handler that wants it as a stream: it
// answers by [Stream.Respond] then, and not by its ResponseWriter.
func StreamOf(r *http.Request) *Stream {
	s, _ := r.Context().Value(streamKey{}).(*Stream)
	return s
}

// Handler makes a handler of streams from one of requests. base is the parent of the contexts of
// requests; such a context ends when the handler returns and when the stream fails.
func Handler(base context.Context, h http.Handler) func(*Stream) {
	return func(s *Stream) {
		if w, r := s.exchange(base); w != nil {
			h.ServeHTTP(w, r) // what serves a flow waits here for as long as the flow lives
			w.finish()
			w.cancel()
		}
	}
}

// exchange is the request of a stream, and what answers it; nil where there is none to answer.
func (s *Stream) exchange(base context.Context) (*responseWriter, *http.Request) {
	ctx, cancel := context.WithCancel(context.WithValue(base, streamKey{}, s))
	s.OnFailure(cancel)
	r, err := s.request(ctx)
	if err != nil {
		cancel()
		s.ResetWith(wire.ProtocolError)
		return nil, nil
	}
	return &responseWriter{s: s, header: http.Header{}, head: r.Method == http.MethodHead, cancel: cancel}, r
}

// request is the request of a stream as net/http has it.
func (s *Stream) request(ctx context.Context) (*http.Request, error) {
	r, err := s.Fields().Request()
	if err != nil {
		return nil, err
	}
	s.conn.mu.Lock()
	s.fields = Fields{} // the request has them
	r.ContentLength = s.length
	if s.remoteEnd && s.unread == 0 {
		r.ContentLength = 0
	} else {
		r.Body = requestBody{s}
	}
	s.conn.mu.Unlock()
	r.RemoteAddr = s.conn.rw.RemoteAddr().String()
	return r.WithContext(ctx), nil
}

// requestBody is the reading direction of a stream.
type requestBody struct{ s *Stream }

func (b requestBody) Read(p []byte) (int, error) { return b.s.Read(p) }
func (b requestBody) Close() error               { return nil }

// responseWriter is the writing direction of a stream. Like that of net/http it is for one
// goroutine.
type responseWriter struct {
	s      *Stream
	header http.Header
	head   bool // HEAD: no body
	wrote  bool
	failed error
	cancel context.CancelFunc // ends the context of the request
}

func (w *responseWriter) Header() http.Header { return w.header }

func (w *responseWriter) WriteHeader(status int) {
	if w.wrote || status < 200 {
		return
	}
	w.wrote = true
	w.failed = w.s.Respond(wire.OfAnswer(status, w.header), w.head || status == http.StatusNoContent || status == http.StatusNotModified)
}

func (w *responseWriter) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	if w.failed != nil {
		return 0, w.failed
	}
	if w.head {
		return len(p), nil
	}
	return w.s.Write(p)
}

// Flush implements http.Flusher.
func (w *responseWriter) Flush() { w.FlushError() }

// FlushError is for http.ResponseController.
func (w *responseWriter) FlushError() error {
	w.WriteHeader(http.StatusOK)
	if w.failed == nil {
		w.failed = w.s.Flush()
	}
	return w.failed
}

// SetReadDeadline is for http.ResponseController.
func (w *responseWriter) SetReadDeadline(t time.Time) error { return w.s.SetReadDeadline(t) }

// SetWriteDeadline is for http.ResponseController.
func (w *responseWriter) SetWriteDeadline(t time.Time) error { return w.s.SetWriteDeadline(t) }

// finish ends the answer, unless the handler has used the stream itself.
func (w *responseWriter) finish() {
	w.s.conn.mu.Lock()
	taken := w.s.answered && !w.wrote
	w.s.conn.mu.Unlock()
	if !taken {
		w.WriteHeader(http.StatusOK)
		w.s.Close()
	}
}

// RoundTrip implements http.RoundTripper at the client. The body of the answer is the reading
// direction of the stream; closing it resets what has not ended. The context of the request governs
// all of it.
func (c *Conn) RoundTrip(r *http.Request) (*http.Response, error) {
	s, err := c.Open(wire.OfRequest(r), r.Body == nil || r.Body == http.NoBody)
	if err != nil {
		if r.Body != nil {
			r.Body.Close()
		}
		return nil, err
	}
	ctx := r.Context()
	stop := context.AfterFunc(ctx, func() { s.Reset() })
	if r.Body != nil && r.Body != http.NoBody {
		go s.send(r.Body) // ends with the body or with the stream
	}
	f, err := s.Response(ctx)
	if err != nil {
		s.Reset()
		if stop(); ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, err
	}
	resp := s.response(r, f)
	resp.Body.(*responseBody).stop = stop
	return resp, nil
}

// response is the answer f as net/http has it.
func (s *Stream) response(r *http.Request, f Fields) *http.Response {
	a := f.Answer()
	a.Request, a.Body = r, &responseBody{s: s, ctx: r.Context()}
	return a
}

// Open opens a stream with a request without a body, and waits for the answer. A status other than
// 200 is returned with its response, whose body the caller closes, and no stream. ctx governs the
// opening; the stream lives until Close.
func Open(ctx context.Context, c *Conn, r *http.Request) (*Stream, *http.Response, error) {
	s, err := c.Open(wire.OfRequest(r), false)
	if err != nil {
		return nil, nil, err
	}
	f, err := s.Response(ctx)
	if err != nil {
		s.Reset()
		return nil, nil, err
	}
	if f.Get(":status") != "200" {
		return nil, s.response(r, f), nil
	}
	return s, nil, nil
}

// Accept answers a request with status 200 and makes a stream of it. The handler must not return
// before it is done with the stream; returning ends it.
func Accept(r *http.Request) (*Stream, error) {
	s := StreamOf(r)
	if err := s.Respond(Fields{{Name: ":status", Value: "200"}}, false); err != nil {
		return nil, err
	}
	return s, s.Flush()
}

// send is the writing direction of a request. A body that breaks off resets the stream: the peer
// must not take it for a whole one. A stream that takes no more of the body is left alone: an
// answer may be there.
func (s *Stream) send(body io.ReadCloser) {
	defer body.Close()
	_, err := s.ReadFrom(body)
	switch {
	case err == nil:
		s.CloseWrite()
	case s.WriteErr() == nil:
		s.Reset()
	}
}

// responseBody is the reading direction of a stream.
type responseBody struct {
	s    *Stream
	ctx  context.Context
	stop func() bool // of what ends the stream with ctx; may be nil
}

func (b *responseBody) Read(p []byte) (int, error) {
	n, err := b.s.Read(p)
	if err != nil && err != io.EOF && b.ctx.Err() != nil {
		err = context.Cause(b.ctx)
	}
	return n, err
}

func (b *responseBody) Close() error {
	if b.stop != nil {
		b.stop()
	}
	b.s.conn.mu.Lock()
	over := b.s.over
	b.s.conn.mu.Unlock()
	if over {
		b.s.Close()
		return nil
	}
	return b.s.Reset()
}
