package h2

import (
	"io"
	"runtime"
	"testing"
)

func TestAStreamThatMovesMuchLeavesLittleToTheCollector(t *testing.T) {
	const size = 64 << 20
	c, _ := pair(t, func(s *Stream) {
		s.Respond(ok, false)
		piece := make([]byte, 128<<10)
		for range size / len(piece) {
			if _, err := s.Write(piece); err != nil {
				t.Error(err)
			}
		}
		s.Close()
	})
	s := open(t, c)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if n, err := io.Copy(io.Discard, struct{ io.Reader }{s}); n != size || err != nil {
		t.Fatalf("%d bytes, %v", n, err)
	}
	runtime.ReadMemStats(&after)
	// A pool of the race detector loses some of what is put into it.
	if made := after.TotalAlloc - before.TotalAlloc; made > size {
		t.Errorf("%d bytes of garbage for %d that were moved", made, size)
	}
}
