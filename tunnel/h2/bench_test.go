package h2

import (
	"io"
	"testing"
)

func BenchmarkOpen(b *testing.B) {
	c, _ := pair(b, func(s *Stream) {
		buf := make([]byte, 64)
		io.ReadFull(s, buf)
		s.Respond(ok, false)
		s.Write(make([]byte, 128))
		s.Close()
	})
	b.ReportAllocs()
	out, in := make([]byte, 64), make([]byte, 128)
	for b.Loop() {
		s := open(b, c)
		s.Write(out)
		if _, err := io.ReadFull(s, in); err != nil {
			b.Fatal(err)
		}
		s.CloseWrite()
		s.Close()
	}
}

func BenchmarkPingPong(b *testing.B) {
	c, _ := pair(b, echo)
	s := open(b, c)
	buf := []byte{1}
	for b.Loop() {
		s.Write(buf)
		if _, err := io.ReadFull(s, buf); err != nil {
			b.Fatal(err)
		}
	}
	s.Close()
}

func BenchmarkDown(b *testing.B) {
	c, _ := pair(b, func(s *Stream) {
		s.Respond(ok, false)
		buf := make([]byte, 256<<10)
		for {
			if _, err := s.Write(buf); err != nil {
				return
			}
		}
	})
	s := open(b, c)
	buf := make([]byte, 256<<10)
	b.SetBytes(int64(len(buf)))
	for b.Loop() {
		if _, err := io.ReadFull(s, buf); err != nil {
			b.Fatal(err)
		}
	}
	s.Reset()
}
