// Package hop is relays that know no mesh: the limits that a path is measured by.
package hop

import (
	"errors"
	"io"
	"net"
	"sync"
)

// Serve is one relay, a process of its own. A plain one is the kernel's splice and nothing else:
// three of them in a row are the limit that anything with an entrance, a hub and an exit is
// measured by. there and back copy until their source ends.
func Serve(ln net.Listener, target string, there, back func(dst io.Writer, src io.Reader)) error {
	return AcceptAll(ln, func(in *net.TCPConn) {
		up, err := net.Dial("tcp", target)
		if err != nil {
			in.SetLinger(0)
			in.Close()
			return
		}
		out := up.(*net.TCPConn)
		var wg sync.WaitGroup
		wg.Go(func() { there(out, in); out.CloseWrite() })
		back(in, out)
		in.CloseWrite()
		wg.Wait()
		in.Close()
		out.Close()
	})
}

// Plain copies in the kernel, where that can.
func Plain(dst io.Writer, src io.Reader) { io.Copy(dst, src) }

// AcceptAll uses each connection that comes in a goroutine of its own, until the listener is closed.
func AcceptAll(ln net.Listener, f func(*net.TCPConn)) error {
	for {
		c, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		go f(c.(*net.TCPConn)) // ends with its connection
	}
}
