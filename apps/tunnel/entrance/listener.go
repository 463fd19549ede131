package entrance

import (
	"context"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"ztm/apps/listen"
	"ztm/apps/tunnel/spec"
	"ztm/apps/udp"
	"ztm/tunnel/pause"
)

const (
	// openTimeout bounds the opening of one listener, which may have to resolve a name.
	openTimeout = 10 * time.Second

	// A listener that does not open is tried again: at once for what passes quickly (an old process
	// that is just ending), and then less often (an address that the machine does not have yet).
	reopenMin = 250 * time.Millisecond
	reopenMax = 30 * time.Second
)

// listener is one port, or one socket, on which an inbound listens. It opens at once or later, and
// stays the same through changes of its inbound that keep its address.
type listener struct {
	transport string       // static
	address   spec.Address // static; one port

	opening sync.Mutex    // held while it is being opened; taken before mu
	opened  chan struct{} // capacity 1, never closed: wakes run

	mu     sync.Mutex
	place  place
	socket io.Closer // a net.Listener or a *udp.Socket; nil while not open
	err    error     // why it is not open
	closed bool
	stop   context.CancelFunc // ends run; nil before it runs
}

// place is where a port stands in its range of ports.
type place struct{ index, size int }

func newListener(transport string, a spec.Address) *listener {
	return &listener{transport: transport, address: a, opened: make(chan struct{}, 1)}
}

// open opens the listener if it is not open. The error is an *answer.Error.
func (l *listener) open() error {
	l.opening.Lock()
	defer l.opening.Unlock()
	if s, _ := l.state(); s != nil {
		return nil
	}
	socket, err := openSocket(l.transport, l.address)
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case err != nil:
		l.err = listen.Error(l.address.String(), l.address.First, err)
		return l.err
	case l.closed:
		socket.Close()
		return listen.Error(l.address.String(), l.address.First, net.ErrClosed)
	}
	l.socket, l.err = socket, nil
	select {
	case l.opened <- struct{}{}:
	default:
	}
	return nil
}

// openSocket opens a net.Listener or a *udp.Socket on one port or path.
func openSocket(transport string, a spec.Address) (io.Closer, error) {
	ctx, cancel := context.WithTimeout(context.Background(), openTimeout)
	defer cancel()
	network, address := a.Network(transport)
	switch {
	case network == "unix":
		return listen.Unix(ctx, address)
	case transport == spec.UDP:
		return udp.Listen(ctx, network, address)
	}
	return listen.TCP(ctx, network, address)
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
	closed := l.closed
	l.mu.Unlock()
	return closed
}

// run keeps the listener open and serves it, until ctx ends or it is closed.
func (l *listener) run(ctx context.Context, log *slog.Logger, serve func(context.Context, io.Closer)) {
	defer context.AfterFunc(ctx, l.close)()
	defer l.close()
	retry := listen.Backoff{Min: reopenMin, Max: reopenMax}
	for ctx.Err() == nil {
		if err := l.open(); err != nil {
			if retry.First() {
				log.Warn("cannot listen, retrying", "listen", l.address, "err", err)
			}
			pause.OrWake(ctx, retry.Next(), l.opened)
			continue
		}
		if socket, _ := l.state(); socket != nil {
			serve(ctx, socket)
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
	case net.Listener:
		if l.address.Path == "" {
			s.Address = socket.Addr().String()
		}
	}
	if err != nil {
		s.Error = err.Error()
	}
	return s
}
