// Package listen opens the sockets on which an app or the agent listens, and accepts connections
// from them:
//
//	TCP or Unix: open -> Accept: a connection after the other, in spite of errors -> handle
//
// A unix socket is its owner's alone from the moment it has a name, and takes the place of one that
// a killed program left behind, never of one that is served. [Backoff] says when to try again, and
// [Error] explains a failure to a person.
package listen

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"syscall"
	"time"

	"ztm/tunnel/answer"
	"ztm/tunnel/pause"
)

const (
	// A listener that cannot accept, for want of file descriptors for example, waits for others to
	// free some.
	acceptMin = 5 * time.Millisecond
	acceptMax = time.Second
)

// KeepAlive finds clients and targets that are gone without a word within about a minute.
var KeepAlive = net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 10 * time.Second, Count: 3}

// TCP listens on an address as [net.Listen] does, without Multipath TCP. Its connections have
// [KeepAlive] and [InlineUrgent].
func TCP(ctx context.Context, network, address string) (net.Listener, error) {
	config := net.ListenConfig{KeepAlive: -1, Control: InlineUrgent} // which connections inherit
	config.SetMultipathTCP(false)                                    // or they would not, and Accept takes longer
	ln, err := config.Listen(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return keptAlive{ln}, nil
}

// keptAlive is a listener whose connections have [KeepAlive], but for those of this machine: the
// system says when their other end is gone, and an option less is a system call less.
type keptAlive struct{ net.Listener }

func (l keptAlive) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	if tcp, ok := c.(*net.TCPConn); ok && !tcp.RemoteAddr().(*net.TCPAddr).IP.IsLoopback() {
		tcp.SetKeepAliveConfig(KeepAlive) // fails only when the connection is gone
	}
	return c, nil
}

// Accept hands the connections of a listener to handle, which must not block, until the listener is
// closed. An error does not end it: it waits, the longer the more there are, and goes on.
func Accept(ctx context.Context, ln net.Listener, log *slog.Logger, handle func(net.Conn)) {
	retry := AcceptBackoff()
	for {
		c, err := ln.Accept()
		switch {
		case err == nil:
			retry.Reset()
			handle(c)
		case errors.Is(err, net.ErrClosed) || ctx.Err() != nil:
			return
		default:
			if retry.First() {
				log.Warn("cannot accept, retrying", "listen", ln.Addr(), "err", err)
			}
			pause.For(ctx, retry.Next())
		}
	}
}

// AcceptBackoff is how long a socket that fails to accept or to receive waits.
func AcceptBackoff() Backoff { return Backoff{Min: acceptMin, Max: acceptMax} }

// Error says what a failure to listen means, for the owner of the endpoint. name is the address as
// people write it; port is its port, 0 for a unix socket.
func Error(name string, port uint16, err error) *answer.Error {
	denied := errors.Is(err, os.ErrPermission)
	switch {
	case isAny(err, errsInUse):
		return answer.Errorf(answer.Conflict, "listen %s: the address is in use by another program: stop it, or choose another port", name)
	case denied && port > 0 && port < 1024:
		return answer.Errorf(answer.Denied, "listen %s: ports below 1024 need a privilege that this program does not have: "+
			"choose a higher port, or run it as root", name)
	case denied && port == 0:
		return answer.Errorf(answer.Denied, "listen %s: this program may not make a socket there: choose another directory", name)
	case isAny(err, errsNoAddress):
		return answer.Errorf(answer.BadRequest, "listen %s: this machine does not have that address: choose one of its own, or * for all", name)
	}
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err // without the address, which is named already
	}
	return answer.Errorf(answer.BadRequest, "listen %s: %v", name, err)
}

func isAny(err error, list []syscall.Errno) bool {
	for _, e := range list {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
