package quiet

import (
	"bytes"
	"crypto/tls"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"testing"
	"time"

	"ztm/apps/appstest"
	"ztm/tunnel"
	"ztm/tunnel/identity/identitytest"
)

func TestMain(m *testing.M) { os.Exit(appstest.Run(m)) }

func sockets(t testing.TB) (a, b *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	near, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close() })
	far, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { far.Close() })
	return near.(*net.TCPConn), far.(*net.TCPConn)
}

// pair is a connection whose far end is a Conn. below is what lies under its TLS; nil: what a hub
// has there.
func pair(t testing.TB, below func(*net.TCPConn) net.Conn) (near *tls.Conn, far *Conn) {
	t.Helper()
	a, socket := sockets(t)
	under := net.Conn(socket)
	if below != nil {
		under = below(socket)
	}
	records := &tunnel.RecordConn{Conn: under}
	server := tls.Server(records, &tls.Config{Certificates: []tls.Certificate{identitytest.New(t, time.Now()).Hub().Cert}, MinVersion: tls.VersionTLS13})
	near = tls.Client(a, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13})
	shaken := make(chan error, 1)
	go func() { shaken <- server.HandshakeContext(t.Context()) }()
	if err := near.HandshakeContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-shaken; err != nil {
		t.Fatal(err)
	}
	records.Meter.Over()
	return near, New(server, records.Gather(), socket)
}

func TestNothingIsLostAndNobodyWaitsForWhatIsThere(t *testing.T) {
	near, far := pair(t, nil)
	chacha := rand.NewChaCha8([32]byte{1})
	data := make([]byte, 2<<20)
	chacha.Read(data)
	sizes := []int{1, 9, 17, size - 1, size, size + 1, 16384, 16385, 40_000}
	random := rand.New(chacha)
	go func() {
		for rest := data; len(rest) > 0; {
			n := min(sizes[random.IntN(len(sizes))], len(rest))
			if _, err := near.Write(rest[:n]); err != nil {
				return // the reader says so
			}
			rest = rest[n:]
		}
		near.CloseWrite()
	}()
	var got []byte
	for i := 0; ; i++ {
		p := make([]byte, sizes[i%len(sizes)])
		far.Await()
		n, err := far.Read(p)
		got = append(got, p[:n]...)
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(got, data) {
		t.Errorf("%d bytes came of %d, or others", len(got), len(data))
	}
}

// counted counts the calls of a socket.
type counted struct {
	net.Conn
	reads, writes int
}

func (c *counted) Read(p []byte) (int, error) {
	c.reads++
	return c.Conn.Read(p)
}

func (c *counted) Write(p []byte) (int, error) {
	c.writes++
	return c.Conn.Write(p)
}

func TestWhatMovesMuchTakesFewCalls(t *testing.T) {
	var calls *counted
	near, far := pair(t, func(c *net.TCPConn) net.Conn {
		calls = &counted{Conn: c}
		return calls
	})
	const records = 3 // at the least; the socket has room for them
	calls.reads, calls.writes = 0, 0
	b := make([]byte, records*16384)
	if _, err := near.Write(b); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(far, b); err != nil || calls.reads > records {
		t.Errorf("%d reads, %v", calls.reads, err)
	}
	if _, err := far.Write(b); err != nil || calls.writes != 1 {
		t.Errorf("%d writes, %v", calls.writes, err)
	}
}

func TestAwaitEndsWithTheConnection(t *testing.T) {
	for name, end := range map[string]func(near *tls.Conn, far *Conn){
		"the peer's end": func(near *tls.Conn, _ *Conn) { near.Close() },
		"its own close":  func(_ *tls.Conn, far *Conn) { far.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			near, far := pair(t, nil)
			near.Write([]byte("x"))
			far.Read(make([]byte, 2))
			ended := make(chan error, 1)
			go func() {
				far.Await()
				_, err := far.Read(make([]byte, 2))
				ended <- err
			}()
			end(near, far)
			if err := <-ended; err == nil {
				t.Error("there is no end")
			}
		})
	}
}
