package tunnel

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"ztm/apps/udp"
)

const (
	// openTimeout bounds the opening of one listener, which may have to resolve a name.
	openTimeout = 10 * time.Second

	// A listener that does not open is tried again: at once for what passes quickly (an old process that is just
	// ending), and then less often (an address that the machine does not have yet).
	reopenMin = 250 * time.Millisecond
	reopenMax = 30 * time.Second

	// A listener that cannot accept, for want of file descriptors for example, waits for others to free some.
	acceptMin = 5 * time.Millisecond
	acceptMax = time.Second
)

// listener is one port, or one socket, on which an inbound listens. It opens at once or later, and stays the same
// through changes of its inbound that keep its address.
type listener struct {
	transport string  // static
	address   Address // static; one port

	opening sync.Mutex    // held while it is being opened; taken before mu
	opened  chan struct{} // capacity 1, never closed: wakes run

	mu     sync.Mutex
	spot   spot
	socket io.Closer // a net.Listener or a *udp.Socket; nil while not open
	err    error     // why it is not open
	closed bool
	stop   context.CancelFunc // ends run; nil before it runs
}

// spot is the place of a port in its range.
type spot struct{ index, size int }

func newListener(transport string, a Address) *listener {
	return &listener{transport: transport, address: a, opened: make(chan struct{}, 1)}
}

// open opens the listener if it is not open. The error is an *apps.Error.
func (l *listener) open() error {
	l.opening.Lock()
	defer l.opening.Unlock()
	if s, _ := l.state(); s != nil {
		return nil
	}
	socket, err := listen(l.transport, l.address)
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case err != nil:
		l.err = listenError(l.address, err)
		return l.err
	case l.closed:
		socket.Close()
		return listenError(l.address, net.ErrClosed)
	}
	l.socket, l.err = socket, nil
	select {
	case l.opened <- struct{}{}:
	default:
	}
	return nil
}

// state returns the socket if the listener is open, and otherwise why it is not.
func (l *listener) state() (io.Closer, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.socket, l.err
}

// close closes the listener for good.
func (l *listener) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if l.socket != nil {
		l.socket.Close()
		l.socket = nil
	}
	if l.stop != nil {
		l.stop()
	}
}

func (l *listener) isClosed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closed
}

// run keeps the listener open and serves it, until ctx ends or it is closed.
func (l *listener) run(ctx context.Context, log *slog.Logger, serve func(context.Context, io.Closer)) {
	defer context.AfterFunc(ctx, l.close)()
	defer l.close()
	retry := backoff{min: reopenMin, max: reopenMax}
	for ctx.Err() == nil {
		if err := l.open(); err != nil {
			if retry.failures == 0 {
				log.Warn("listener does not open, trying on", "listen", l.address, "err", err)
			}
			wait(ctx, retry.next(), l.opened)
			continue
		}
		if socket, _ := l.state(); socket != nil {
			serve(ctx, socket)
		}
	}
}

// accept hands the connections of a listener to handle, until the listener is closed.
func accept(ctx context.Context, ln net.Listener, log *slog.Logger, handle func(net.Conn)) {
	retry := backoff{min: acceptMin, max: acceptMax}
	for {
		c, err := ln.Accept()
		switch {
		case err == nil:
			retry.failures = 0
			handle(c)
		case errors.Is(err, net.ErrClosed) || ctx.Err() != nil:
			return
		default:
			if retry.failures == 0 {
				log.Warn("listener does not accept, trying on", "listen", ln.Addr(), "err", err)
			}
			wait(ctx, retry.next(), nil)
		}
	}
}

// ListenStatus is how one port of an inbound does.
type ListenStatus struct {
	Address string `json:"address"` // with the port that the system chose, if it did
	Open    bool   `json:"open"`
	Error   string `json:"error,omitempty"` // why it is not open
}

func (l *listener) status() ListenStatus {
	socket, err := l.state()
	s := ListenStatus{Address: l.address.String(), Open: socket != nil}
	switch socket := socket.(type) {
	case *udp.Socket:
		s.Address = socket.LocalAddr().String()
	case *net.TCPListener:
		s.Address = socket.Addr().String()
	}
	if err != nil {
		s.Error = err.Error()
	}
	return s
}
