package tunnel

import (
	"errors"
	"io"
	"net"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/net/http/httpproxy"
)

// TestNoProxyMeansWhatItMeansElsewhere compares with the rules of net/http.
func TestNoProxyMeansWhatItMeansElsewhere(t *testing.T) {
	t.Setenv("HTTPS_PROXY", "http://proxy:3128")
	for _, list := range []string{
		"", "*", "hub.example.com", "example.com", ".example.com", "*.example.com", "EXAMPLE.com:443", "example.com:8888,x",
		"10.0.0.0/8", "10.1.2.3", "10.1.2.3:8888", "2001:db8::/32", "[2001:db8::1]:8888", "::1", "a , hub.example.com ,b", ":8888", ",,", "10.0.0.0/8:443",
	} {
		t.Setenv("NO_PROXY", list)
		p, err := ProxyFromEnvironment()
		if err != nil {
			t.Fatal(err)
		}
		reference := (&httpproxy.Config{HTTPSProxy: "http://proxy:3128", NoProxy: list}).ProxyFunc()
		for _, hub := range []string{
			"hub.example.com:8888", "HUB.example.com:443", "example.com:8888", "badexample.com:8888", "10.1.2.3:8888", "11.1.2.3:8888",
			"[2001:db8::1]:8888", "[2001:db9::1]:8888", "localhost:8888", "127.0.0.1:8888", "[::1]:8888", "x:1", "[::ffff:10.1.2.3]:8888",
		} {
			via, err := reference(&url.URL{Scheme: "https", Host: hub})
			if err != nil {
				t.Fatal(err)
			}
			if got, want := p.direct(hub), via == nil; got != want {
				t.Errorf("NO_PROXY=%q, hub %s: direct is %v, want %v", list, hub, got, want)
			}
		}
	}
}

// FuzzNoProxy compares with net/http, for lists between commas and hubs with names or addresses in ASCII.
func FuzzNoProxy(f *testing.F) {
	for _, list := range []string{"*.b.c:80,d", "10.0.0.0/8,[::1]:1", ".a,*", "::ffff:1.2.3.4", "1.2.3.4:80"} {
		f.Add(list, "a.b.c", uint16(80))
		f.Add(list, "1.2.3.4", uint16(80))
		f.Add(list, "::1", uint16(1))
	}
	f.Fuzz(func(t *testing.T, list, host string, port uint16) {
		odd := func(r rune) bool { return r <= ' ' || r >= 0x7f }
		if strings.ContainsFunc(list, odd) || strings.ContainsFunc(host, odd) || strings.ContainsAny(host, "%[]/") || port == 0 {
			t.Skip()
		}
		hub := net.JoinHostPort(host, strconv.Itoa(int(port)))
		u := &url.URL{Scheme: "https", Host: hub}
		if u.Hostname() != host {
			t.Skip()
		}
		via, err := (&httpproxy.Config{HTTPSProxy: "http://proxy:3128", NoProxy: list}).ProxyFunc()(u)
		if err != nil {
			t.Skip()
		}
		p := &Proxy{except: append(exceptions(list), here()...)}
		if got, want := p.direct(hub), via == nil; got != want {
			t.Errorf("NO_PROXY=%q, hub %s: direct is %v, want %v", list, hub, got, want)
		}
	})
}

func TestHubsOfNoProxyAreDialledDirectly(t *testing.T) {
	hub := listen(t)
	t.Setenv("HTTPS_PROXY", "127.0.0.1:1") // nobody listens there
	t.Setenv("NO_PROXY", "127.0.0.1")
	p, err := ProxyFromEnvironment()
	if err != nil {
		t.Fatal(err)
	}
	c, err := (&Dialer{Proxy: p}).Dial(t.Context(), hub.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

func TestFailuresOfTheProxyAreSaidOfTheProxy(t *testing.T) {
	ln := listen(t)
	go func() { // ends with the listener
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			c.Read(make([]byte, 1024))
			io.WriteString(c, "HTTP/1.1 403 Forbidden\r\n\r\n")
			c.Close()
		}
	}()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	for proxy, want := range map[string]string{
		"http://u:secret@" + ln.Addr().String():       "403 Forbidden",
		"http://u:secret@" + closed.Addr().String():   syscall.ECONNREFUSED.Error(),
		"socks5://u:secret@" + closed.Addr().String(): syscall.ECONNREFUSED.Error(),
	} {
		p, err := ParseProxy(proxy)
		if err != nil {
			t.Fatal(err)
		}
		_, err = (&Dialer{Proxy: p}).Dial(t.Context(), "hub.example.com:8888")
		var of *ProxyError
		if !errors.As(err, &of) || of.Proxy != p.URL.Host || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", p.URL.Redacted(), err)
		}
	}
}

func TestHeadOfAProxysAnswerHasALimit(t *testing.T) {
	ln := listen(t)
	go func() { // ends with the connection
		c, err := ln.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		io.WriteString(c, "HTTP/1.1 200 OK\r\nX: ")
		for {
			if _, err := c.Write(make([]byte, 4096)); err != nil {
				return
			}
		}
	}()
	d := &Dialer{Proxy: &Proxy{URL: &url.URL{Scheme: "http", Host: ln.Addr().String()}}}
	var of *ProxyError
	if _, err := d.Dial(t.Context(), "hub.example.com:8888"); !errors.As(err, &of) {
		t.Errorf("an endless head: %v", err)
	}
}
