package capsule

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

func TestWhatIsNoDatagramIsSkippedOrRefused(t *testing.T) {
	whole := AppendDatagram(nil, []byte("ab"))
	for _, c := range []struct {
		name string
		in   []byte
		want string
		err  error
	}{
		{"one datagram", whole, "ab", io.EOF},
		{"unknown types are skipped", append([]byte{0x21, 2, 9, 9}, whole...), "ab", io.EOF},
		{"another context is skipped", append([]byte{datagram, 3, 1, 'n', 'o'}, whole...), "ab", io.EOF},
		{"a type whose low half is that of DATAGRAM", append([]byte{0xc0, 0, 0, 1, 0, 0, 0, 0, 1, 'x'}, whole...), "ab", io.EOF},
		{"nothing at all", nil, "", io.EOF},
		{"cut in a header", whole[:3], "", io.ErrUnexpectedEOF},
		{"cut in the data", whole[:len(whole)-1], "", io.ErrUnexpectedEOF},
		{"an unknown type of 1 GiB", []byte{0x21, 0xbf, 0xff, 0xff, 0xff}, "", ErrTooLong},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, p := NewDatagrams(bytes.NewReader(c.in)), make([]byte, 100)
			n, err := d.Read(p)
			if err == nil {
				_, err = d.Read(make([]byte, 1))
			}
			if string(p[:n]) != c.want || !errors.Is(err, c.err) {
				t.Errorf("got %q, %v; want %q, %v", p[:n], err, c.want, c.err)
			}
		})
	}
}

func TestADatagramIsCutToWhatIsAskedFor(t *testing.T) {
	in := AppendDatagram(nil, []byte("first"))
	in = AppendDatagram(in, nil)
	d, p := NewDatagrams(bytes.NewReader(in)), make([]byte, 3)
	if n, err := d.Read(p); string(p[:n]) != "fir" || err != nil {
		t.Errorf("got %q, %v", p[:n], err)
	}
	if n, err := d.Read(p); n != 0 || err != nil {
		t.Errorf("an empty datagram is read as %d bytes, %v", n, err)
	}
}

// FuzzRead: no input gives more payload than it has bytes, and every input has an end.
func FuzzRead(f *testing.F) {
	f.Add(AppendDatagram(nil, []byte("abc")))
	f.Add([]byte{0x21, 2, 9, 9})
	f.Fuzz(func(t *testing.T, in []byte) {
		d, buf := NewDatagrams(bytes.NewReader(in)), make([]byte, 1<<16)
		total := 0
		var end error
		for range len(in) + 2 {
			var n int
			waited := d.Wait()
			n, end = d.Read(buf)
			if waited != nil && waited != end {
				t.Fatalf("waiting ended with %v, reading with %v", waited, end)
			}
			if total += n; end != nil {
				break
			}
		}
		if total > len(in) {
			t.Fatalf("%d bytes of payload from %d", total, len(in))
		}
		if _, err := d.Read(buf); end == nil || err == nil {
			t.Fatal("no end")
		}
	})
}

// BenchmarkDatagram writes and reads one datagram of the usual size.
func BenchmarkDatagram(b *testing.B) {
	payload := make([]byte, 1400)
	in := bytes.NewReader(nil)
	d := NewDatagrams(in)
	var buf []byte
	b.SetBytes(int64(len(payload)))
	b.ReportAllocs()
	for b.Loop() {
		buf = AppendDatagram(buf[:0], payload)
		in.Reset(buf)
		if n, err := d.Read(payload); n != len(payload) || err != nil {
			b.Fatal(n, err)
		}
	}
}
