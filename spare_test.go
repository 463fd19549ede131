package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"ztm/tunnel"
)

func TestTheNextCarrierTakesTheSpareLeg(t *testing.T) {
	for what, change := range map[string]func(*httpProxy){
		"while no connection to the hub can be had": (*httpProxy).refuse,
		"and a new one where that has been cut":     (*httpProxy).cutLast,
	} {
		t.Run(what, func(t *testing.T) {
			w := newWorld(t)
			p := newHTTPProxy(t)
			w.options.Proxy = &tunnel.Proxy{URL: p.url}
			w.join("root", "root")
			w.options.Proxy = nil
			w.join("bob", "bob")
			w.join("eve", "eve")
			target := echoServer(t)
			bob := w.tunnelTo("root", "bob", "bob", target, "--users", "root")
			eve := w.tunnelTo("root", "eve", "eve", target, "--users", "root")
			wantEcho(t, bob)
			w.until("a spare leg is ready", func() error {
				if !strings.Contains(w.logs["root"].String(), "a leg is ready") {
					return errors.New("not yet")
				}
				return nil
			})
			change(p)
			wantEcho(t, eve)
			if strings.Contains(w.logs["root"].String(), "taking a stream of the control session") {
				t.Error("the second carrier is a stream of the control session")
			}
		})
	}
}

// httpProxy is a proxy by CONNECT that can be told to let nobody through any more.
type httpProxy struct {
	url *url.URL

	mu     sync.Mutex
	closed bool       // guarded by mu
	conns  []net.Conn // that it let through, the last one last; guarded by mu
}

func newHTTPProxy(t *testing.T) *httpProxy {
	t.Helper()
	p := &httpProxy{url: &url.URL{Scheme: "http"}}
	p.url.Host = serveEach(t, p.serve)
	t.Cleanup(func() { // before that of serveEach, which waits
		p.refuse()
		for _, c := range p.conns {
			c.Close()
		}
	})
	return p
}

func (p *httpProxy) serve(c *net.TCPConn) {
	br := bufio.NewReader(c)
	r, err := http.ReadRequest(br)
	if err != nil {
		return
	}
	up, err := net.Dial("tcp", r.Host)
	if err != nil {
		return
	}
	defer up.Close()
	if !p.pass(c) {
		return
	}
	fmt.Fprint(c, "HTTP/1.1 200 OK\r\n\r\n")
	go func() { // ends with up
		io.Copy(up, br)
		up.Close()
	}()
	io.Copy(c, up)
}

func (p *httpProxy) pass(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.conns = append(p.conns, c)
	}
	return !p.closed
}

// refuse lets nobody through from now on.
func (p *httpProxy) refuse() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
}

// cutLast ends the connection that came last.
func (p *httpProxy) cutLast() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns[len(p.conns)-1].Close()
}
