package main

import (
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"ztm/apps/appstest"
	"ztm/tunnel"
)

// Where a firewall lets a device have a single connection, its flows share that with what it hears
// the hub through.
func TestReadersThatStopDoNotStopADeviceWithASingleConnection(t *testing.T) {
	appstest.Long(t)
	for _, narrow := range [][]string{{"root"}, {"bob"}, {"root", "bob"}} {
		t.Run(strings.Join(narrow, " and "), func(t *testing.T) {
			w := newWorld(t)
			for _, name := range []string{"root", "bob", "eve"} {
				if !slices.Contains(narrow, name) {
					w.join(name, name)
					continue
				}
				p := newHTTPProxy(t)
				w.options.Proxy = &tunnel.Proxy{URL: p.url}
				w.join(name, name)
				p.refuse()
				w.options.Proxy = nil
			}
			var sent atomic.Int64
			endless := serveEach(t, func(c *net.TCPConn) {
				for b := make([]byte, 32<<10); ; {
					n, err := c.Write(b)
					sent.Add(int64(n))
					if err != nil {
						return
					}
				}
			})
			target := echoServer(t)
			stopped := w.tunnelTo("root", "bob", "endless", endless, "--users", "root")
			bob := w.tunnelTo("root", "bob", "bob", target, "--users", "root")
			eve := w.tunnelTo("root", "eve", "eve", target, "--users", "root")
			var readers []net.Conn
			for range 12 {
				c, err := net.Dial("tcp", stopped)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				readers = append(readers, c)
				if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
					t.Fatal(err)
				}
				last := int64(-1)
				w.until("nobody takes any longer", func() error {
					if now := sent.Load(); now != last {
						last = now
						return errors.New("bytes still flow")
					}
					return nil
				})
			}
			for range 3 {
				wantEcho(t, bob)
				wantEcho(t, eve)
				w.ztm("root", "get", "ep")
				w.ztm("bob", "get", "ep")
			}
			for _, c := range readers {
				if _, err := io.CopyN(io.Discard, c, 8<<20); err != nil {
					t.Fatalf("a reader that goes on: %v", err)
				}
				c.Close()
			}
		})
	}
}
