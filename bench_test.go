package main

import (
	"io"
	"net"
	"testing"
)

// BenchmarkConnection connects through two agents and a hub in this process, sends one byte there and back, and closes. What it allocates is
// everybody's: client, agents, hub and server.
func BenchmarkConnection(b *testing.B) {
	w := newWorld(b)
	w.join("root", "root")
	w.join("bob", "bob")
	listen := w.tunnelTo("root", "bob", "web", echoServer(b), "--users", "root")
	wantEcho(b, listen)
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		one := []byte{1}
		for pb.Next() {
			c, err := net.Dial("tcp", listen)
			if err != nil {
				b.Error(err)
				return
			}
			if _, err := c.Write(one); err != nil {
				b.Error(err)
			}
			if _, err := io.ReadFull(c, one); err != nil {
				b.Error(err)
			}
			c.Close()
		}
	})
}
