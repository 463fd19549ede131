// Package resolver finds names on Android. A program without cgo looks for name servers in
// /etc/resolv.conf, which is not there, and then asks itself, in vain.
//
//	[Needed] -> [Servers]: $ZTM_DNS, else Termux's resolv.conf, then public ones -> [New]: a net.Resolver
package resolver

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"path"
	"strings"
	"sync/atomic"
)

// public are asked where nobody has said whom to ask. Who does not want that sets $ZTM_DNS.
var public = []string{"1.1.1.1:53", "8.8.8.8:53", "[2606:4700:4700::1111]:53"}

// Needed reports whether this is Android, or Linux on top of it, without a resolv.conf. root is the
// system's "/".
func Needed(root fs.FS, getenv func(string) string) bool {
	if _, err := fs.Stat(root, "etc/resolv.conf"); !errors.Is(err, fs.ErrNotExist) {
		return false
	}
	_, err := fs.Stat(root, "system/bin/sh")
	return getenv("ANDROID_ROOT") != "" || err == nil
}

// Servers returns the addresses of name servers, best first. ZTM_DNS is a list with commas:
// "192.168.1.1,9.9.9.9:53".
func Servers(root fs.FS, getenv func(string) string) []string {
	var out []string
	for _, s := range strings.Split(getenv("ZTM_DNS"), ",") {
		out = add(out, s)
	}
	if len(out) > 0 {
		return out
	}
	name := path.Join(strings.TrimPrefix(path.Clean("/"+getenv("PREFIX")), "/"), "etc/resolv.conf")
	if text, err := fs.ReadFile(root, name); err == nil {
		for line := range strings.Lines(string(text)) {
			if f := strings.Fields(line); len(f) >= 2 && f[0] == "nameserver" {
				out = add(out, f[1])
			}
		}
	}
	return append(out, public...)
}

// add adds an address, with port 53 if it has none. What is no address is left out.
func add(servers []string, s string) []string {
	s = strings.TrimSpace(s)
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		host, port = strings.Trim(s, "[]"), "53"
	}
	if ip, _, _ := strings.Cut(host, "%"); net.ParseIP(ip) == nil {
		return servers
	}
	return append(servers, net.JoinHostPort(host, port))
}

// New returns a resolver that asks the first server and stays with it until a question there was
// not answered, or was refused; then the next one is asked, by all. The resolver of the standard
// library asks again itself; it is only told another server.
func New(servers []string) *net.Resolver {
	c := &choice{servers: servers}
	return &net.Resolver{
		PreferGo: true,
		Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			var err error
			for range servers {
				i := c.current.Load()
				var conn net.Conn
				if conn, err = new(net.Dialer).DialContext(ctx, network, c.at(i)); err == nil {
					return watch(conn, func() { c.leave(i) }), nil
				}
				c.leave(i)
			}
			return nil, err
		},
	}
}

// choice is which server is asked now. It is safe for concurrent use.
type choice struct {
	servers []string
	current atomic.Uint32 // counts up; the server is its remainder
}

func (c *choice) at(i uint32) string { return c.servers[i%uint32(len(c.servers))] }

// leave goes on to the next server unless another question did so already: two that fail at one
// server pass over only that one.
func (c *choice) leave(i uint32) { c.current.CompareAndSwap(i, i+1) }

// watch calls failed when an answer does not come, or says that this server cannot (RFC 1035
// section 4.1.1). The type that it returns tells datagrams from a stream, by which the standard
// library frames its messages.
func watch(conn net.Conn, failed func()) net.Conn {
	if udp, ok := conn.(*net.UDPConn); ok {
		return &datagrams{udp, failed}
	}
	return &stream{conn, failed}
}

type datagrams struct {
	*net.UDPConn
	failed func()
}

func (d *datagrams) Read(p []byte) (int, error) {
	n, err := d.UDPConn.Read(p)
	const serverFailure, refused = 2, 5
	if err != nil || n > 3 && (p[3]&0xf == serverFailure || p[3]&0xf == refused) {
		d.failed()
	}
	return n, err
}

type stream struct {
	net.Conn
	failed func()
}

func (s *stream) Read(p []byte) (int, error) {
	n, err := s.Conn.Read(p)
	if err != nil {
		s.failed()
	}
	return n, err
}
