package main

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// hop is one relay, a process of its own. A plain one is the kernel's splice and nothing else: three of them in a row are the limit that
// anything with an entrance, a hub and an exit is measured by. there and back copy until their source ends.
func hop(ln net.Listener, target string, there, back func(dst io.Writer, src io.Reader)) error {
	return acceptAll(ln, func(in *net.TCPConn) {
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

func plain(dst io.Writer, src io.Reader) { io.Copy(dst, src) }

func acceptAll(ln net.Listener, f func(*net.TCPConn)) error {
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

// delayed is a relay that holds every byte for a time and counts it: a long line, where the kernel has no netem.
type delayed struct {
	ln    net.Listener
	delay time.Duration
	bytes atomic.Int64 // payload, both directions
	only  atomic.Bool  // no more connections than there are
}

func newDelayed(target string, delay time.Duration) (*delayed, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	d := &delayed{ln: ln, delay: delay}
	go acceptAll(ln, func(in *net.TCPConn) {
		if d.only.Load() {
			in.SetLinger(0)
			in.Close()
			return
		}
		out, err := net.Dial("tcp", target)
		if err != nil {
			in.Close()
			return
		}
		var wg sync.WaitGroup
		wg.Go(func() { d.copy(out.(*net.TCPConn), in) })
		d.copy(in, out.(*net.TCPConn))
		wg.Wait()
		in.Close()
		out.Close()
	})
	return d, nil
}

func (d *delayed) address() string { return d.ln.Addr().String() }
func (d *delayed) close()          { d.ln.Close() }

type late struct {
	b  []byte
	at time.Time
}

// copy reads as fast as it comes and writes each piece when its time has come.
func (d *delayed) copy(dst, src *net.TCPConn) {
	line := make(chan late, 4096) // closed by the reader
	go func() {
		defer close(line)
		for {
			b := make([]byte, 32<<10)
			n, err := src.Read(b)
			if n > 0 {
				d.bytes.Add(int64(n))
				line <- late{b[:n], time.Now().Add(d.delay)}
			}
			if err != nil {
				return
			}
		}
	}()
	for l := range line {
		wait := time.NewTimer(time.Until(l.at))
		<-wait.C
		if _, err := dst.Write(l.b); err != nil {
			src.Close()
			for range line {
			}
			return
		}
	}
	dst.CloseWrite()
}
