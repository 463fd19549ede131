package direct

import (
	"context"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"ztm/tunnel/freeport"
)

// freePort is a port that nobody has.
func freePort(t *testing.T) uint16 {
	t.Helper()
	port, release, err := freeport.Lease(1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	return uint16(port)
}

// meetOnLoopback has two dial each other, the second one after the first was refused. Nobody
// listens.
func meetOnLoopback(t *testing.T) (a, b net.Conn) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	loopback := netip.MustParseAddr("127.0.0.1")
	one, other := freePort(t), freePort(t)
	type result struct {
		c   net.Conn
		err error
	}
	first := make(chan result, 1)
	go func() { // awaited below
		c, err := dial(ctx, one, netip.AddrPortFrom(loopback, other))
		first <- result{c, err}
	}()
	b, err := dial(ctx, other, netip.AddrPortFrom(loopback, one))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	r := <-first
	if r.err != nil {
		t.Fatal(r.err)
	}
	t.Cleanup(func() { r.c.Close() })
	return r.c, b
}

func TestTwoThatDialEachOtherConnectThoughNobodyListens(t *testing.T) {
	for range 20 {
		a, b := meetOnLoopback(t)
		go a.Write([]byte("hello")) // ends with a
		got := make([]byte, 5)
		if _, err := io.ReadFull(b, got); err != nil || string(got) != "hello" {
			t.Fatalf("%q, %v", got, err)
		}
	}
}

func TestAConnectionHearsResetsOnceItStands(t *testing.T) {
	a, b := meetOnLoopback(t)
	a.(*net.TCPConn).SetLinger(0)
	a.Close()
	b.SetReadDeadline(time.Now().Add(60 * time.Second))
	if _, err := b.Read(make([]byte, 1)); err == nil || err == io.EOF || err.(net.Error).Timeout() {
		t.Errorf("got %v", err)
	}
}

// Where one candidate leads to the peer and the others lead nowhere, the end of those does not
// reset the connection that was made.
func TestTheConnectionThatWinsSurvivesTheEndOfTheOthers(t *testing.T) {
	n := &Network{Dial: dial}
	candidates := func(port uint16) (out []Candidate) {
		for _, a := range []string{"127.0.0.2", "127.0.0.3", "127.0.0.1", "127.0.0.4"} {
			out = append(out, Candidate{Kind: LAN, To: netip.AddrPortFrom(netip.MustParseAddr(a), port)})
		}
		return out
	}
	for range 50 {
		one, other := freePort(t), freePort(t)
		served := make(chan net.Conn, 4)
		done := make(chan struct{})
		go func() { // awaited below
			defer close(done)
			Answer(t.Context(), n, other, candidates(one), func(_ context.Context, _ Candidate, c net.Conn) bool {
				served <- c
				return true
			})
		}()
		won, by, err := Dial(t.Context(), n, one, candidates(other), func(_ context.Context, c net.Conn) (io.Closer, error) { return c, nil })
		if err != nil {
			t.Fatal(err)
		}
		<-done
		b := <-served
		go won.(net.Conn).Write([]byte("hello")) // ends with won
		b.SetReadDeadline(time.Now().Add(60 * time.Second))
		if _, err := io.ReadFull(b, make([]byte, 5)); err != nil || by.To.Addr().String() != "127.0.0.1" {
			t.Errorf("by %v: %v", by.To, err)
		}
		won.Close()
		b.Close()
	}
}
