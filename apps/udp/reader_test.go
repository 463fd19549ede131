package udp_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"ztm/apps/appstest"
	"ztm/apps/udp"
)

// Thousands of clients of a UDP tunnel are silent most of the time; a buffer of each would be
// 64 KiB.
func TestAReaderThatWaitsHoldsNoBuffer(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a socket needs one to wait with here")
	}
	const readers = 200
	before := live()
	var ended sync.WaitGroup
	defer ended.Wait()
	for range readers {
		client, server := pair(t)
		defer server.Close()
		got := make(chan []byte, 1)
		ended.Go(func() {
			for r := udp.NewReader(server); r.Read(func(b []byte) { got <- slices.Clone(b) }) == nil; {
			}
		})
		client.Write([]byte("first"))
		if b := <-got; string(b) != "first" {
			t.Fatalf("got %q", b)
		}
	}
	if used := live() - before; used > readers*udp.MaxPacket/2 {
		t.Errorf("%d readers that wait took %d KiB", readers, used>>10)
	}
}

// live returns the bytes that are in use.
func live() int64 {
	runtime.GC()
	runtime.GC() // what a pool holds goes with the second one
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func TestAReaderReturnsEachDatagramWhole(t *testing.T) {
	a, b := pair(t)
	defer b.Close()
	r := udp.NewReader(b)
	for _, want := range [][]byte{[]byte("first"), {}, bytes.Repeat([]byte("x"), 9000)} {
		a.Write(want)
		if err := r.Read(func(b []byte) {
			if !bytes.Equal(b, want) {
				t.Errorf("%d bytes came, want %d", len(b), len(want))
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
}

// pair is two sockets that are connected to each other.
func pair(t *testing.T) (a, b net.Conn) {
	t.Helper()
	first, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if a, err = net.Dial("udp4", first.LocalAddr().String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	first.Close()
	d := net.Dialer{LocalAddr: first.LocalAddr()}
	if b, err = d.Dial("udp4", a.LocalAddr().String()); err != nil {
		t.Skip(err) // another program took the port
	}
	return a, b
}

func TestAReaderTellsWhatTheSocketSays(t *testing.T) {
	a, b := pair(t)
	r := udp.NewReader(b)
	b.SetReadDeadline(time.Now().Add(appstest.Timeout))
	a.Close()
	b.Write([]byte("nobody is there"))
	err := r.Read(func(b []byte) { t.Errorf("got %q", b) })
	if err == nil || errors.Is(err, io.EOF) {
		t.Errorf("a refusal is %v", err)
	}
	b.Close()
	if err := r.Read(func([]byte) {}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a closed socket says %v, want %v", err, net.ErrClosed)
	}
}
