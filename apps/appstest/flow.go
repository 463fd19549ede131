package appstest

import (
	"context"
	"errors"
	"net"
	"net/url"
	"sync"
	"time"

	"ztm/apps"
	"ztm/tunnel/answer"
)

// flow is one request. It is answered once: by Accept, by Refuse, or by its end.
type flow struct {
	app, path string
	query     url.Values
	peer      apps.Peer
	exit      apps.Endpoint
	datagrams bool
	answer    chan outcome // capacity 1, never closed; gets exactly one answer

	mu       sync.Mutex
	answered bool
	ended    bool
	cancel   context.CancelFunc // nil until the flow is served
	near     net.Conn           // the exit's end; nil until accepted
}

type outcome struct {
	conn net.Conn
	err  error
}

var errEnded = errors.New("the flow has ended")

func (f *flow) Peer() apps.Peer   { return f.peer }
func (f *flow) Path() string      { return f.path }
func (f *flow) Query() url.Values { return f.query }

func (f *flow) Refuse(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answerLocked(outcome{err: apps.Refusal(f.exit, f.peer, "000000", err)})
}

func (f *flow) answerLocked(a outcome) {
	if !f.answered {
		f.answered = true
		f.answer <- a
	}
}

func (f *flow) Accept() (net.Conn, error) {
	if f.datagrams {
		return nil, errors.New("accept: the flow carries datagrams")
	}
	return f.accept("tcp")
}

func (f *flow) AcceptDatagrams() (net.Conn, error) {
	if !f.datagrams {
		return nil, errors.New("accept: the flow carries bytes")
	}
	return f.accept("udp")
}

func (f *flow) accept(network string) (net.Conn, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.answered || f.ended {
		return nil, errEnded
	}
	near, far, err := Pair(network)
	if err != nil {
		return nil, err
	}
	f.near = near
	f.answerLocked(outcome{conn: far})
	return near, nil
}

func (f *flow) setCancel(cancel context.CancelFunc) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cancel = cancel
	if f.ended {
		cancel()
	}
}

// end ends the flow: a connection that is still open is reset. It may be called more than once.
func (f *flow) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended = true
	f.answerLocked(outcome{err: answer.Errorf(answer.Broken, "the flow was cut before it was answered")})
	if f.near != nil {
		f.near.(interface{ Reset() error }).Reset()
	}
	if f.cancel != nil {
		f.cancel()
	}
}

// Pair returns the two ends of a connection: for "tcp" of a real one over loopback, with CloseWrite
// and Reset; for "udp" of one in memory that carries datagrams, with Reset. As in the real mesh,
// neither has deadlines.
func Pair(network string) (near, far net.Conn, err error) {
	if network == "udp" {
		near, far = datagramPair()
		return near, far, nil
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	defer ln.Close()
	if near, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		return nil, nil, err
	}
	if far, err = ln.Accept(); err != nil {
		near.Close()
		return nil, nil, err
	}
	return resettable{near.(*net.TCPConn)}, resettable{far.(*net.TCPConn)}, nil
}

// errNoDeadline is what a flow answers to everything about deadlines, here as in the real mesh.
var errNoDeadline = errors.New("a flow has no deadlines")

type resettable struct{ *net.TCPConn }

func (c resettable) SetDeadline(time.Time) error      { return errNoDeadline }
func (c resettable) SetReadDeadline(time.Time) error  { return errNoDeadline }
func (c resettable) SetWriteDeadline(time.Time) error { return errNoDeadline }

func (c resettable) Reset() error {
	c.SetLinger(0)
	return c.Close()
}

var _ apps.Flow = (*flow)(nil)
