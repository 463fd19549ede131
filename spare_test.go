package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"testing"

	"ztm/agent/api"
	"ztm/tunnel"
)

func TestTheNextPathTakesTheStandbyConnection(t *testing.T) {
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
			w.until("a standby connection is ready", func() error {
				if !w.hubOf("root").Standby {
					return errors.New("not yet")
				}
				return nil
			})
			before := w.hubOf("root").Fallbacks
			change(p)
			wantEcho(t, eve)
			if now := w.hubOf("root").Fallbacks; now != before {
				t.Errorf("%d paths are streams of the control session", now-before)
			}
		})
	}
}

// hubOf returns the hub as an agent sees it.
func (w *world) hubOf(name string) api.Hub {
	w.t.Helper()
	var hubs []api.Hub
	if err := json.Unmarshal([]byte(w.ztm(name, "get", "hub", "-o", "json")), &hubs); err != nil || len(hubs) != 1 {
		w.t.Fatalf("%s knows %d hubs, %v", name, len(hubs), err)
	}
	return hubs[0]
}

// httpProxy is a proxy by CONNECT that can be told to let nobody through any longer.
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
