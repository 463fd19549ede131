package capsule

import (
	"bytes"
	"io"
	"net/http"
	"strconv"
	"testing"
)

// BenchmarkDecode reads capsules of a keystroke and of a full frame.
func BenchmarkDecode(b *testing.B) {
	for _, size := range []int{64, Frame - dataHeader} {
		b.Run(strconv.Itoa(size), func(b *testing.B) {
			one := make([]byte, dataHeader+size)
			putDataHeader(one, typeData, size)
			input := bytes.NewReader(nil)
			d := &decoder{r: input}
			out := io.Writer(struct{ io.Writer }{io.Discard})
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				input.Reset(one)
				if err := d.next(); err != nil {
					b.Fatal(err)
				}
				if _, err := d.writeCapsule(out); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkEncode sends what a source says as the exit does, to a response that goes nowhere.
func BenchmarkEncode(b *testing.B) {
	for _, size := range []int{64, Frame - dataHeader} {
		b.Run(strconv.Itoa(size), func(b *testing.B) {
			w := nowhere{}
			c := newConn(nil, &response{w, http.NewResponseController(w)}, false)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			b.ResetTimer()
			if n, err := c.ReadFrom(&repeat{size: size, left: b.N}); n != int64(size)*int64(b.N) || err != nil {
				b.Fatal(n, err)
			}
		})
	}
}

// BenchmarkDatagram sends and reads one datagram of the usual size.
func BenchmarkDatagram(b *testing.B) {
	payload := make([]byte, 1400)
	input := bytes.NewReader(nil)
	d := &datagrams{decoder{r: input}}
	var buf []byte
	b.SetBytes(int64(len(payload)))
	b.ReportAllocs()
	for b.Loop() {
		buf = appendDatagram(buf[:0], payload)
		input.Reset(buf)
		if n, err := d.Read(payload); n != len(payload) || err != nil {
			b.Fatal(n, err)
		}
	}
}

// repeat gives pieces of size bytes, in as many Reads as their room needs.
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
