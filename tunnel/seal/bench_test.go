package seal

import (
	"io"
	"net"
	"strconv"
	"sync/atomic"
	"testing"
)

// sizes of a Write: a keystroke or a request, and what a busy flow writes.
var sizes = []int{64, 128 << 10}

// deaf is a path that throws away what is written to it, once it is told to.
type deaf struct {
	net.Conn
	on atomic.Bool
}

func (d *deaf) Write(p []byte) (int, error) {
	if d.on.Load() {
		return len(p), nil
	}
	return d.Conn.Write(p)
}

// BenchmarkWrite seals: TLS and the gathering of its records, and nothing below.
func BenchmarkWrite(b *testing.B) {
	for _, size := range sizes {
		b.Run(strconv.Itoa(size), func(b *testing.B) {
			a, _, _ := dedicated(b)
			d := &deaf{Conn: a.batch.Conn.Conn}
			a.batch.Conn.Conn = d
			d.on.Store(true)
			chunk := make([]byte, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := a.Write(chunk); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkRead is all the way: a goroutine seals and writes to a socket, and this one reads and
// opens.
func BenchmarkRead(b *testing.B) {
	for _, size := range sizes {
		b.Run(strconv.Itoa(size), func(b *testing.B) {
			from, to, _ := dedicated(b)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			b.ResetTimer()
			go func() { // ends with b.N writes, or with the connection
				chunk := make([]byte, size)
				for range b.N {
					from.Write(chunk)
				}
				from.CloseWrite()
			}()
			buf := make([]byte, 128<<10)
			for {
				if _, err := to.Read(buf); err == io.EOF {
					return
				} else if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkOpen opens a flow on a warm session, sends a byte there and back, and ends it in both
// directions.
func BenchmarkOpen(b *testing.B) {
	m := newMembers(b, "alice", "bob")
	s, _, _, err := connect(b, m[0], m[1], m[1].id, echo(b))
	if err != nil {
		b.Fatal(err)
	}
	one := []byte{1}
	b.ReportAllocs()
	for b.Loop() {
		c := openFlow(b, s)
		if _, err := c.Write(one); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(c, one); err != nil {
			b.Fatal(err)
		}
		c.CloseWrite()
		if _, err := c.Read(one); err != io.EOF {
			b.Fatal(err)
		}
		c.Close()
	}
}
