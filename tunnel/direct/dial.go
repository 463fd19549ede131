package direct

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"ztm/tunnel/pause"
)

// The pace of a round: one dial at a time for each candidate, again after each refusal, until two
// SYNs cross.
const (
	RoundTime = 4 * time.Second // three SYNs of a dial that nobody answers
	maxDials  = 100             // of one candidate
	leastWait = 5 * time.Millisecond
	mostWait  = 25 * time.Millisecond
)

// Network is what this package needs of the system.
type Network struct {
	Addresses func() (Interfaces, error)
	Dial      func(ctx context.Context, from uint16, to netip.AddrPort) (net.Conn, error)
	Socket    func() (Socket, error) // nil: that of the system, see [OpenSocket]
}

// System is the network of this device.
func System() *Network { return &Network{Addresses: Addresses, Dial: dial} }

// dial opens one connection from a port that other connections have as well.
func dial(ctx context.Context, from uint16, to netip.AddrPort) (net.Conn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{Port: int(from)}, Control: func(_, _ string, rc syscall.RawConn) error {
		deafen(rc)
		return Reuse(rc)
	}}
	network := "tcp6"
	if to.Addr().Is4() {
		network = "tcp4"
	}
	c, err := d.DialContext(ctx, network, to.String())
	if err != nil {
		return nil, err
	}
	if err := hear(c); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// ErrNone is returned when no candidate led anywhere.
var ErrNone = errors.New("no attempt got through")

// Dial dials all candidates at once from one port, for [RoundTime]. seal makes of a connection what
// the caller wants, owns it, and may be called from several goroutines; the first that succeeds
// wins. The others are given up, and closed if they succeed all the same. Two candidates never share
// a pair of addresses, so that closing one cannot reset another.
func Dial(
	ctx context.Context, n *Network, from uint16, candidates []Candidate, seal func(context.Context, net.Conn) (io.Closer, error),
) (won io.Closer, by Candidate, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	err = ErrNone
	var mu sync.Mutex
	n.each(ctx, from, candidates, func(c Candidate, conn net.Conn) {
		got, sealed := seal(ctx, conn)
		mu.Lock()
		late := err == nil
		switch {
		case late:
		case sealed == nil:
			won, by, err = got, c, nil
			cancel()
		case err == ErrNone:
			err = fmt.Errorf("%w: %w", ErrNone, sealed)
		}
		mu.Unlock()
		if late && sealed == nil {
			got.Close()
		}
	})
	return won, by, err
}

// Answer dials all candidates at once from one port, for [RoundTime]. serve owns the connections
// that come of it, and may be called from several goroutines. When it reports that one is what was
// waited for, no more are dialled. Those that are connected go on: which of them is used, the peer
// decides.
func Answer(ctx context.Context, n *Network, from uint16, candidates []Candidate, serve func(context.Context, Candidate, net.Conn) bool) {
	dialling, enough := context.WithCancel(ctx)
	defer enough()
	n.each(dialling, from, candidates, func(c Candidate, conn net.Conn) {
		if serve(ctx, c, conn) {
			enough()
		}
	})
}

// each dials all candidates, and uses each connection in a goroutine of its own. It returns when all
// are used.
func (n *Network) each(ctx context.Context, from uint16, candidates []Candidate, use func(Candidate, net.Conn)) {
	var wg sync.WaitGroup
	end := time.Now().Add(RoundTime) // monotonic: a step of the wall clock does not move it
	for _, c := range candidates {
		wg.Go(func() {
			if conn := n.meet(ctx, from, c.To, end); conn != nil {
				if a, ok := conn.LocalAddr().(*net.TCPAddr); ok {
					c.From = a.AddrPort().Addr().Unmap()
				}
				use(c, conn)
			}
		})
	}
	wg.Wait()
}

// meet dials one candidate until it connects; nil if it does not.
func (n *Network) meet(ctx context.Context, from uint16, to netip.AddrPort, end time.Time) net.Conn {
	ctx, cancel := context.WithDeadline(ctx, end)
	defer cancel()
	for range maxDials {
		if c, err := n.Dial(ctx, from, to); err == nil {
			return c
		}
		if !pause.For(ctx, leastWait+rand.N(mostWait-leastWait)) {
			return nil
		}
	}
	return nil
}
