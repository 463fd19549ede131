// Package resolver finds names on Android. A program without cgo looks for name servers in /etc/resolv.conf, which is not there, and
// then asks itself, in vain.
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

// Needed reports whether this is Android, or Linux on top of it, without a resolv.conf. root is the system's "/".
func Needed(root fs.FS, getenv func(string) string) bool {
	if _, err := fs.Stat(root, "etc/resolv.conf"); !errors.Is(err, fs.ErrNotExist) {
		return false
	}
	_, err := fs.Stat(root, "system/bin/sh")
	return getenv("ANDROID_ROOT") != "" || err == nil
}

// Servers returns the addresses of name servers, best first. ZTM_DNS is a list with commas: "192.168.1.1,9.9.9.9:53".
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

// New returns a resolver that asks the servers in turn: each new question, and each that was not answered, goes to the next one.
func New(servers []string) *net.Resolver {
	var turn atomic.Uint32
	return &net.Resolver{
		PreferGo: true,
		Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			var err error
			for range servers {
				server := servers[int(turn.Add(1)-1)%len(servers)]
				var c net.Conn
				if c, err = new(net.Dialer).DialContext(ctx, network, server); err == nil {
					return c, nil
				}
			}
			return nil, err
		},
	}
}
