package main

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

var transports = []string{"TCP", "UDP"}

// newcomer is a short flow that begins while the others run.
type newcomer struct {
	transport    string
	began, ended time.Time
	target       uint64
	err          error
}

// newcomers begins one flow after the other.
type newcomers struct {
	mesh *mesh

	mu   sync.Mutex
	list []newcomer // in the order in which they ended
}

// run begins flows until stop is closed, and waits for them.
func (n *newcomers) run(stop <-chan struct{}) {
	var running sync.WaitGroup
	defer running.Wait()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			running.Go(func() { n.one("TCP", n.tcp) })
			running.Go(func() { n.one("UDP", n.udp) })
		case <-stop:
			return
		}
	}
}

func (n *newcomers) one(transport string, visit func() (uint64, error)) {
	c := newcomer{transport: transport, began: time.Now()}
	c.target, c.err = visit()
	c.ended = time.Now()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.list = append(n.list, c)
}

func (n *newcomers) tcp() (target uint64, err error) {
	c, target, err := n.mesh.dial()
	if err != nil {
		return 0, err
	}
	defer c.Close()
	if _, err := c.Write([]byte{requests}); err != nil {
		return target, err
	}
	if err := (&flow{}).request(c, []byte("hello")); err != nil {
		return target, err
	}
	return target, finish(c)
}

// udp sends a datagram, again and again, until an answer comes.
func (n *newcomers) udp() (target uint64, err error) {
	conn, err := net.Dial("udp", n.mesh.udp)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	buf := make([]byte, 1<<16)
	for deadline := time.Now().Add(timeout); time.Now().Before(deadline); {
		conn.Write(datagram(1, []byte("hello")))
		conn.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
		size, err := conn.Read(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			continue
		}
		if err != nil {
			return 0, err
		}
		target, _, err = parseAnswer(buf[:size])
		return target, err
	}
	return 0, os.ErrDeadlineExceeded
}
