package splice_test

import (
	"context"
	"io"
	"testing"
)

// BenchmarkBulk moves one large stream. Allocations are for each MiB.
func BenchmarkBulk(b *testing.B) {
	for _, k := range []struct {
		name string
		a, b pair
	}{
		{"tcp-tcp", tcp, tcp},
		{"tcp-unix", tcp, unix},
		{"unix-unix", unix, unix},
		{"wrapped-tcp", wrapped, tcp},
		{"sealed-tcp", sealed, tcp},
	} {
		b.Run(k.name, func(b *testing.B) {
			r := start(b, context.Background(), k.a, k.b)
			chunk := make([]byte, 1<<20)
			b.SetBytes(int64(len(chunk)))
			b.ReportAllocs()
			b.ResetTimer()
			go func() { // ends when b has read to the end
				for range b.N {
					r.a.Write(chunk)
				}
				closeWrite(b, r.a)
			}()
			buf := make([]byte, 256<<10)
			for {
				if _, err := r.b.Read(buf); err == io.EOF {
					return
				} else if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkPingPong sends one byte there and back through the join.
func BenchmarkPingPong(b *testing.B) {
	for _, k := range kinds {
		b.Run(k.name+"-tcp", func(b *testing.B) {
			r := start(b, context.Background(), k.pair, tcp)
			b.ReportAllocs()
			var one [1]byte
			for b.Loop() {
				r.a.Write(one[:])
				io.ReadFull(r.b, one[:])
				r.b.Write(one[:])
				io.ReadFull(r.a, one[:])
			}
		})
	}
}

// BenchmarkShort joins two new connections for one byte in each direction.
func BenchmarkShort(b *testing.B) {
	for _, k := range kinds {
		b.Run(k.name+"-tcp", func(b *testing.B) {
			b.ReportAllocs()
			var one [1]byte
			for b.Loop() {
				r := start(b, context.Background(), k.pair, tcp)
				r.a.Write(one[:])
				io.ReadFull(r.b, one[:])
				r.a.Close()
				r.b.Close()
				<-r.done
			}
		})
	}
}
