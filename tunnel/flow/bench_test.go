package flow

import (
	"io"
	"net/http"
	"strconv"
	"testing"

	"ztm/tunnel/capsule"
)

// BenchmarkEncode sends what a source says as the exit does, to a response that goes nowhere.
func BenchmarkEncode(b *testing.B) {
	for _, size := range []int{64, chunk - capsule.HeaderSize} {
		b.Run(strconv.Itoa(size), func(b *testing.B) {
			w := nowhere{}
			c := newConn(nil, &responseBody{w, http.NewResponseController(w)}, false)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			b.ResetTimer()
			if n, err := c.ReadFrom(&repeat{size: size, left: b.N}); n != int64(size)*int64(b.N) || err != nil {
				b.Fatal(n, err)
			}
		})
	}
}

// repeat gives pieces of size bytes, in as many Reads as their buffers need.
type repeat struct{ size, left, given int }

func (r *repeat) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	n := min(len(p), r.size-r.given)
	if r.given += n; r.given == r.size {
		r.given, r.left = 0, r.left-1
	}
	return n, nil
}

// nowhere is a response that nobody reads.
type nowhere struct{}

func (nowhere) Header() http.Header         { return http.Header{} }
func (nowhere) WriteHeader(int)             {}
func (nowhere) Write(p []byte) (int, error) { return len(p), nil }
func (nowhere) FlushError() error           { return nil }
