package main

import (
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// gate is a way to a hub that can be closed: nothing passes it, and nobody is told. What was on the
// way passes when it is opened.
type gate struct {
	address string
	passed  atomic.Int64 // bytes
	delay   atomic.Int64 // nanoseconds, in each direction

	mu     sync.Mutex
	to     string
	shut   chan struct{} // closed while the gate is open; guarded by mu
	conns  []net.Conn    // guarded by mu
	closed bool          // guarded by mu
}

func newGate(t testing.TB, to string) *gate {
	t.Helper()
	g := &gate{to: to, shut: make(chan struct{})}
	close(g.shut)
	g.address = serveEach(t, g.serve)
	t.Cleanup(g.end) // before that of serveEach, which waits
	return g
}

func (g *gate) serve(c *net.TCPConn) {
	up, err := net.Dial("tcp", g.to)
	if err != nil {
		return
	}
	g.mu.Lock()
	g.conns = append(g.conns, c, up)
	if g.closed {
		c.Close()
	}
	g.mu.Unlock()
	var wg sync.WaitGroup
	wg.Go(func() { g.pass(up, c) })
	g.pass(c, up)
	wg.Wait()
}

// chunk is what was read, and when it is to be written.
type chunk struct {
	bytes []byte
	due   time.Time
}

func (g *gate) pass(to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	under := make(chan chunk, 1024)
	var wg sync.WaitGroup
	wg.Go(func() {
		for c := range under {
			<-time.After(time.Until(c.due))
			g.mu.Lock()
			shut := g.shut
			g.mu.Unlock()
			<-shut
			g.passed.Add(int64(len(c.bytes)))
			if _, err := to.Write(c.bytes); err != nil {
				from.Close()
			}
		}
	})
	defer wg.Wait()
	defer close(under)
	for {
		buf := make([]byte, 64<<10)
		n, err := from.Read(buf)
		if n > 0 {
			under <- chunk{buf[:n], time.Now().Add(time.Duration(g.delay.Load()))}
		}
		if err != nil {
			return
		}
	}
}

// close lets nothing pass any longer.
func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = make(chan struct{})
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.shut:
	default:
		close(g.shut)
	}
}

// end lets go what is on the way, and ends.
func (g *gate) end() {
	g.open()
	g.cut()
}

// cut ends all connections, and those that come later.
func (g *gate) cut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	for _, c := range g.conns {
		c.Close()
	}
}
