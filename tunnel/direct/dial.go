package direct

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"
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
	Addresses func() ([]netip.Prefix, error)
	Dial      func(ctx context.Context, from uint16, to netip.AddrPort) (net.Conn, error)
}

// System is the network of this device.
func System() *Network { return &Network{Addresses, dial} }

// dial opens one connection from a port that other connections have as well.
func dial(ctx context.Context, from uint16, to netip.AddrPort) (net.Conn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{Port: int(from)}, Control: func(_, _ string, rc syscall.RawConn) error { return Reuse(rc) }}
	network := "tcp6"
	if to.Addr().Is4() {
		network = "tcp4"
	}
	return d.DialContext(ctx, network, to.String())
}

// ErrNone is returned when no candidate led anywhere.
var ErrNone = errors.New("no attempt got through")

// Dial dials all candidates at once from one port, for [RoundTime]. seal makes of a connection what
// the caller wants, owns it, and may be called from several goroutines; the first that succeeds
// wins. The others are given up, and closed if they succeed all the same. Two candidates never share
// a pair of addresses, so that closing one cannot reset another.
func Dial[T io.Closer](
	ctx context.Context, n *Network, from uint16, candidates []Candidate, seal func(context.Context, net.Conn) (T, error),
) (won T, kind Kind, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var (
		wg  sync.WaitGroup
		mu  sync.Mutex
		end = time.Now().Add(RoundTime) // monotonic: a step of the wall clock does not move it
	)
	for _, c := range candidates {
		wg.Go(func() {
			conn := n.meet(ctx, from, c.To, end)
			if conn == nil {
				return
			}
			got, err := seal(ctx, conn)
			if err != nil {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if kind != "" {
				got.Close()
				return
			}
			won, kind = got, c.Kind
			cancel()
		})
	}
	wg.Wait()
	if kind == "" {
		return won, "", ErrNone
	}
	return won, kind, nil
}

// meet dials one candidate until it connects; nil if it does not.
func (n *Network) meet(ctx context.Context, from uint16, to netip.AddrPort, end time.Time) net.Conn {
	ctx, cancel := context.WithDeadline(ctx, end)
	defer cancel()
	for range maxDials {
		if c, err := n.Dial(ctx, from, to); err == nil {
			return c
		}
		timer := time.NewTimer(leastWait + rand.N(mostWait-leastWait))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
	}
	return nil
}
