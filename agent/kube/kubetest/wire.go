package kubetest

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
)

// Wire is a network in memory with one server: what waits for it waits in the time of the test's
// bubble.
type Wire struct {
	server *http.Server
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

// Start serves h on a wire until Stop.
func Start(h http.Handler) *Wire {
	w := &Wire{server: &http.Server{Handler: h}, conns: make(chan net.Conn), closed: make(chan struct{})}
	go w.server.Serve(w)
	return w
}

// Stop ends the server and its connections.
func (w *Wire) Stop() { w.server.Close() }

// Accept implements net.Listener.
func (w *Wire) Accept() (net.Conn, error) {
	select {
	case c := <-w.conns:
		return c, nil
	case <-w.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (w *Wire) Close() error { w.once.Do(func() { close(w.closed) }); return nil }

// Addr implements net.Listener.
func (w *Wire) Addr() net.Addr { return &net.TCPAddr{} }

// Dial connects to the server, whatever the address.
func (w *Wire) Dial(ctx context.Context, _, _ string) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case w.conns <- far:
		return near, nil
	case <-w.closed:
		return nil, errors.New("connection refused")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
