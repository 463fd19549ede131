//go:build unix

package quiet

import (
	"net"
	"syscall"
	"testing"
)

// asked is a socket that counts how often it was read while it had nothing.
type asked struct {
	*net.TCPConn
	vain int // of the reading goroutine
}

func (a *asked) Read(p []byte) (int, error) {
	raw, err := a.SyscallConn()
	if err != nil {
		return 0, err
	}
	raw.Control(func(fd uintptr) {
		if _, _, err := syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_PEEK|syscall.MSG_DONTWAIT); err == syscall.EAGAIN {
			a.vain++
		}
	})
	return a.TCPConn.Read(p)
}

func TestAConnectionAtRestDoesNotWaitInTLS(t *testing.T) {
	var socket *asked
	near, far := pair(t, func(c *net.TCPConn) net.Conn {
		socket = &asked{TCPConn: c}
		return socket
	})
	p := make([]byte, 100)
	read := func() {
		t.Helper()
		far.Await()
		if _, err := far.Read(p); err != nil {
			t.Fatal(err)
		}
	}
	near.Write([]byte("x"))
	read()
	socket.vain = 0
	const pieces = 100
	for range pieces {
		done := make(chan struct{})
		go func() { // begins before there is anything, mostly
			defer close(done)
			near.Write([]byte("PING"))
		}()
		read()
		<-done
	}
	// A record comes in one piece here; now and then a wait ends too early.
	if socket.vain > pieces/2 {
		t.Errorf("TLS waited %d times of %d", socket.vain, pieces)
	}
}
