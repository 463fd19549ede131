package main

import (
	"io"
	"net"
	"runtime"
	"testing"
)

// BenchmarkConnection connects through two agents and a hub in this process, sends one byte there
// and back, and closes. What it allocates is everybody's: client, agents, hub and server.
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

// BenchmarkIdleFlow opens flows that carry one byte each way and then nothing, and reports what one
// holds in memory: in both agents, the hub, the client and the server.
func BenchmarkIdleFlow(b *testing.B) {
	w := newWorld(b)
	w.join("root", "root")
	w.join("bob", "bob")
	listen := w.tunnelTo("root", "bob", "web", echoServer(b), "--users", "root")
	wantEcho(b, listen)
	inUse := func() int64 {
		runtime.GC()
		runtime.GC() // what pools hold goes with the second
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapInuse + m.StackInuse)
	}
	before := inUse()
	one := []byte{1}
	for b.Loop() {
		c, err := net.Dial("tcp", listen)
		if err != nil {
			b.Fatal(err)
		}
		defer c.Close()
		c.Write(one)
		if _, err := io.ReadFull(c, one); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(inUse()-before)/float64(b.N), "B/flow")
}
