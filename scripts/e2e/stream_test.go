//go:build linux

package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// stream returns n bytes that look random and depend on the seed alone.
func stream(seed string, n int64) io.Reader {
	return io.LimitReader(rand.NewChaCha8(sha256.Sum256([]byte(seed))), n)
}

// random returns the bytes of stream at once.
func random(t testing.TB, seed string, n int64) []byte {
	t.Helper()
	b, err := io.ReadAll(stream(seed, n))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func sum(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

// sumOf reads r to its end and returns the hash of what came and how much it was.
func sumOf(r io.Reader) (string, int64, error) {
	h := sha256.New()
	n, err := copyTo(h, r)
	return hexSum(h), n, err
}

func hexSum(h hash.Hash) string { return hex.EncodeToString(h.Sum(nil)) }

// copyTo copies with a large buffer: the test shall not be what is slow.
func copyTo(w io.Writer, r io.Reader) (int64, error) {
	return io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{r}, make([]byte, 1<<20))
}

// server is a TCP service in this process. Each connection has its own goroutine.
type server struct {
	ln    *net.TCPListener
	wg    sync.WaitGroup
	conns sync.Map // *net.TCPConn, those that are open
}

// serve starts a service that ends with the test: handle gets each connection, which is closed when it returns.
func serve(t testing.TB, handle func(*net.TCPConn)) *server {
	t.Helper()
	ln, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: freePort(t)})
	if err != nil {
		t.Fatal(err)
	}
	s := &server{ln: ln}
	s.wg.Go(func() { s.accept(handle) })
	t.Cleanup(func() {
		ln.Close()
		s.conns.Range(func(c, _ any) bool { c.(net.Conn).Close(); return true })
		s.wg.Wait()
	})
	return s
}

func (s *server) accept(handle func(*net.TCPConn)) {
	for {
		c, err := s.ln.AcceptTCP()
		if err != nil {
			return
		}
		s.conns.Store(c, nil)
		s.wg.Go(func() {
			handle(c)
			c.Close()
			s.conns.Delete(c)
		})
	}
}

func (s *server) address() string { return s.ln.Addr().String() }

// open returns how many connections are open.
func (s *server) open() (n int) {
	s.conns.Range(func(_, _ any) bool { n++; return true })
	return n
}

// dial connects to an address; the connection is closed with the test.
func dial(t testing.TB, address string) *net.TCPConn {
	t.Helper()
	c, err := net.DialTimeout("tcp", address, timeout)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn)
}

// echo asks an echo service whether the way to it is good.
func echo(address string) error {
	c, err := net.DialTimeout("tcp", address, timeout)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	want := []byte("is there anybody?")
	if _, err := c.Write(want); err != nil {
		return err
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		return err
	}
	got, err := io.ReadAll(c)
	if err == nil && !bytes.Equal(got, want) {
		err = fmt.Errorf("echo of %q is %q", want, got)
	}
	return err
}

// echoes is an echo service.
func echoes(t testing.TB) *server {
	return serve(t, func(c *net.TCPConn) { io.Copy(c, c) })
}

// faucet is a service that sends without end and counts what the kernel took.
func faucet(t testing.TB) (s *server, taken *atomic.Int64) {
	taken = new(atomic.Int64)
	return serve(t, func(c *net.TCPConn) { pour(c, taken) }), taken
}

// pour writes without end, until the connection breaks, and counts.
func pour(c net.Conn, taken *atomic.Int64) error {
	endless := rand.NewChaCha8([32]byte{})
	buf := make([]byte, 64<<10)
	for {
		endless.Read(buf)
		n, err := c.Write(buf)
		taken.Add(int64(n))
		if err != nil {
			return err
		}
	}
}

// errTruncated is what a client gets that is told of an end where there was none.
var errTruncated = errors.New("the stream ended as if it were complete")

// drain reads from a service that sends without end until the connection fails, and returns how. It calls underway when
// so much has come that the flow has been given a connection of its own through the hub.
func drain(c net.Conn, underway func()) error {
	if _, err := io.CopyN(io.Discard, c, 8<<20); err != nil {
		return err
	}
	underway()
	if _, err := io.Copy(io.Discard, c); err != nil {
		return err
	}
	return errTruncated
}
