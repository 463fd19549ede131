package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"testing"
	"time"
)

// pump is a flow that moves random bytes to a service that returns them, and compares what comes back.
type pump struct {
	moved atomic.Int64 // bytes that came back
	stop  chan struct{}
	ended chan error
}

// pieceSize is what a pump sends at once, in bytes, ahead how many pieces it has under way, and pace
// how long it waits between two: what else runs here needs the processor as well.
const (
	pieceSize = 64 << 10
	ahead     = 8
	pace      = 5 * time.Millisecond
)

func newPump(t *testing.T, address string, seed byte) *pump {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	p := &pump{stop: make(chan struct{}), ended: make(chan error, 2)}
	places := make(chan struct{}, ahead)
	go func() { p.ended <- p.send(c.(*net.TCPConn), seed, places) }() // ends with stop, or the connection
	go func() { p.ended <- p.compare(c, seed, places) }()             // ends with what it sends
	return p
}

func (p *pump) send(c *net.TCPConn, seed byte, places chan<- struct{}) error {
	random := rand.NewChaCha8([32]byte{seed})
	b := make([]byte, pieceSize)
	for {
		select {
		case <-p.stop:
			return c.CloseWrite()
		case places <- struct{}{}:
		}
		<-time.After(pace)
		random.Read(b)
		if _, err := c.Write(b); err != nil {
			return err
		}
	}
}

func (p *pump) compare(c net.Conn, seed byte, places <-chan struct{}) error {
	random := rand.NewChaCha8([32]byte{seed})
	want, got := make([]byte, pieceSize), make([]byte, pieceSize)
	for {
		random.Read(want)
		switch _, err := io.ReadFull(c, got); {
		case err == io.EOF && len(places) == 0:
			return nil
		case err != nil:
			return fmt.Errorf("with %d pieces under way: %w", len(places), err)
		case !bytes.Equal(got, want):
			return fmt.Errorf("other bytes came back after %d", p.moved.Load())
		}
		p.moved.Add(pieceSize)
		<-places
	}
}

// end has the flow end, and returns what was wrong with it.
func (p *pump) end() error {
	close(p.stop)
	return errors.Join(<-p.ended, <-p.ended)
}

// share returns which part of what flows have moved went through a network, in both directions: while
// they have moved some megabytes.
func share(l *lan, pumps []*pump) (float64, error) {
	const enough = 2 << 20
	sum := func() (n int64) {
		for _, p := range pumps {
			n += p.moved.Load()
		}
		return n
	}
	before, direct := sum(), l.moved.Load()
	for late := time.After(60 * time.Second); sum()-before < enough; {
		select {
		case <-late:
			return 0, errors.New("the flows stand still")
		case <-time.After(time.Millisecond):
		}
	}
	return float64(l.moved.Load()-direct) / float64(2*(sum()-before)), nil
}

// goThrough waits until flows go through a network, or past it. Agents look at their paths every 30 s,
// and a change may have to wait for that.
func (w *world) goThrough(l *lan, pumps []*pump, through bool) {
	w.t.Helper()
	w.untilWithin(4*time.Minute, fmt.Sprintf("the flows go through the network (%v)", through), func() error {
		part, err := share(l, pumps)
		if err == nil && (through && part < 0.8 || !through && part > 0.1) {
			err = fmt.Errorf("%.2f of the bytes do", part)
		}
		return err
	})
}

// Two flows for as long as their paths change: 12 times each.
func TestFlowsThatMoveMuchAreWholeOverManyChangesOfThePath(t *testing.T) {
	const changes = 12 // a peer begins six rounds in a minute at most
	w := newWorld(t)
	l := newLAN(t)
	listen := w.neighbours(l, echoServer(t))
	w.neighbour(l, "carol", "10.1.0.3/24")
	w.ztm("root", "config", "direct", "off") // so that they have connections through the hub at first, and no round is spent
	pumps := []*pump{newPump(t, listen, 1), newPump(t, w.tunnelTo("root", "carol", "shop", echoServer(t), "--users", "root"), 2)}
	w.goThrough(l, pumps, false)
	for i := range changes {
		mode := []string{"auto", "off"}[i%2]
		w.ztm("root", "config", "direct", mode)
		if mode == "auto" {
			w.untilDirect("root", "ep-bob")
			w.untilDirect("root", "ep-carol")
		}
		w.goThrough(l, pumps, mode == "auto")
	}
	for i, p := range pumps {
		if err := p.end(); err != nil {
			t.Errorf("flow %d: %v", i, err)
		}
	}
}
