//go:build unix

package flow

import (
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
)

// sourceAsked is a source that counts how often it was read while it had nothing.
type sourceAsked struct {
	*net.TCPConn
	vain atomic.Int32
}

func (a *sourceAsked) ReadsFrom() net.Conn { return a.TCPConn }

func (a *sourceAsked) Read(p []byte) (int, error) {
	raw, err := a.SyscallConn()
	if err != nil {
		return 0, err
	}
	raw.Control(func(fd uintptr) {
		if _, _, err := syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_PEEK|syscall.MSG_DONTWAIT); err == syscall.EAGAIN {
			a.vain.Add(1)
		}
	})
	return a.TCPConn.Read(p)
}

func TestAFlowAtRestHoldsNoBuffer(t *testing.T) {
	cc := serve(t, false, func(c *Conn) { io.Copy(c, c) })
	c := open(t, cc, false)
	client, outer := tcpPair(t)
	src := &sourceAsked{TCPConn: outer.(*net.TCPConn)}
	ended := make(chan error, 1)
	go func() {
		_, err := c.ReadFrom(src)
		ended <- err
	}()
	const pieces = 100
	for range pieces {
		if _, err := client.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	client.Close()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	// The first time nobody knows, and now and then a waiter is woken by what was read already.
	if n := src.vain.Load(); n > pieces/2 {
		t.Errorf("a buffer was held %d times while nothing came", n)
	}
}
