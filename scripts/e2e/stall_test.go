//go:build linux

package e2e

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestStalledReader: a reader that stops holds back its writer, costs nobody memory, is not taken for dead however long
// it takes, and goes on where it stopped.
func TestStalledReader(t *testing.T) {
	t.Parallel()
	const (
		flows     = 4                // each way
		before    = 1 << 20          // what a reader takes before it stops
		after     = 32 << 20         // and what it takes when it goes on
		buffered  = 64 << 20         // what one flow may hold on its way, sockets included
		growth    = 32 << 20         // of resident memory: buffers of dedicated connections, 512 KiB each, and what came before these; 22 MB were measured
		left      = 8 << 20          // of that in the end: a flow that stands needs no buffers, and the collector has been
		stillness = 40 * time.Second // longer than a dead peer would be tolerated
	)
	m := newMesh(t, options{})
	bob := m.addAgent("ep-bob", "bob")
	other := m.root.tunnel("echo", bob, echoes(t).address())

	// Downloads: the server writes, the client stalls. Uploads: the other way around.
	var written atomic.Int64
	wake := make(chan struct{}) // closed when readers go on, or when all is over
	goOn := sync.OnceFunc(func() { close(wake) })
	defer goOn()
	read := make(chan error, 2*flows)
	stall := func(c net.Conn) {
		_, err := io.CopyN(io.Discard, c, before)
		if err == nil {
			<-wake
			_, err = io.CopyN(io.Discard, c, after)
		}
		read <- err
		c.Close()
	}
	downloads := serve(t, func(c *net.TCPConn) { pour(c, &written) })
	uploads := serve(t, func(c *net.TCPConn) { stall(c) })
	down := m.root.tunnel("down", bob, downloads.address())
	up := m.root.tunnel("up", bob, uploads.address())

	if err := echo(other); err != nil {
		t.Fatal(err)
	}
	warmUp(t, down)
	processes := []*process{m.hub, m.root.process, bob.process}
	base := map[*process]int{}
	for _, p := range processes {
		base[p] = p.rss()
	}
	written.Store(0)
	for range flows {
		go stall(dial(t, down))        // ends when it has read, or with the test
		go pour(dial(t, up), &written) // ends with the flow
	}
	await(t, "data moves", func() bool { return written.Load() > 2*flows*before })
	steady(t, 3*time.Second, "what writers have got rid of", written.Load)
	most := map[*process]int{}
	throughout(t, stillness, "writers are held back and memory stays flat", func() bool {
		for _, p := range processes {
			most[p] = max(most[p], p.rss())
			if now := p.rss(); now > base[p]+growth {
				t.Errorf("%s has grown from %d KB to %d KB", p.name, base[p]>>10, now>>10)
				return false
			}
		}
		return written.Load() <= 2*flows*buffered
	})
	t.Logf("%d stalled flows hold %d KB each", 2*flows, written.Load()/(2*flows)>>10)
	for _, p := range processes {
		if now := p.rss(); now > base[p]+left {
			t.Errorf("%s still has %d KB more than before", p.name, (now-base[p])>>10)
		}
		t.Logf("%s: %d KB before, %d KB with stalled readers, %d KB in the end", p.name, base[p]>>10, most[p]>>10, p.rss()>>10)
	}
	if err := echo(other); err != nil {
		t.Errorf("another flow beside the stalled ones: %v", err)
	}
	goOn()
	for range 2 * flows {
		if err := <-read; err != nil {
			t.Errorf("a reader that goes on: %v", err)
		}
	}
}

// warmUp moves some data, so that buffers and heaps have the size that they have in use.
func warmUp(t testing.TB, download string) {
	t.Helper()
	c := dial(t, download)
	defer c.Close()
	if _, err := io.CopyN(io.Discard, c, 64<<20); err != nil {
		t.Fatal(err)
	}
}
