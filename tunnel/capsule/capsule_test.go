package capsule

import (
	"bytes"
	"errors"
	"io"
	"strconv"
	"testing"
)

func capsuleOf(t Type, p string) []byte {
	b := make([]byte, HeaderSize)
	PutHeader(b, t, len(p))
	return append(b, p...)
}

func TestAStreamIsRefusedWhereItIsNone(t *testing.T) {
	cases := []struct {
		name string
		in   []byte
		want string
		err  error
	}{
		{"data and final data", append(capsuleOf(Data, "ab"), capsuleOf(FinalData, "c")...), "abc", nil},
		{"unknown types are skipped", append([]byte{0x21, 2, 9, 9}, capsuleOf(FinalData, "x")...), "x", nil},
		{"an end without FINAL_DATA", capsuleOf(Data, "ab"), "ab", io.ErrUnexpectedEOF},
		{"cut in a header", capsuleOf(Data, "ab")[:5], "", io.ErrUnexpectedEOF},
		{"cut in the data", capsuleOf(FinalData, "abc")[:10], "ab", io.ErrUnexpectedEOF},
		{"nothing at all", nil, "", io.ErrUnexpectedEOF},
		{"an unknown type of 1 GiB", []byte{0x21, 0xbf, 0xff, 0xff, 0xff}, "", ErrTooLong},
		{"a type whose low half is that of FINAL_DATA", []byte{0xc0, 0, 0, 1, 0x20, 0x28, 0xd7, 0xf1, 1, 'x'}, "", io.ErrUnexpectedEOF},
		{"data that moves", append(capsuleOf(Data, "ab"), capsuleOf(Moved, "")...), "ab", ErrMoved},
		{"MOVED with a value", capsuleOf(Moved, "x"), "", ErrTooLong},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got, err := io.ReadAll(NewStream(bytes.NewReader(c.in)))
			if string(got) != c.want || !errors.Is(err, c.err) {
				t.Errorf("got %q, %v; want %q, %v", got, err, c.want, c.err)
			}
			var out bytes.Buffer
			if _, err := NewStream(bytes.NewReader(c.in)).WriteTo(&out); out.String() != c.want || !errors.Is(err, c.err) {
				t.Errorf("WriteTo gives %q, %v; want %q, %v", out.String(), err, c.want, c.err)
			}
		})
	}
}

func TestDatagramsOfOtherContextsAreSkipped(t *testing.T) {
	in := []byte{byte(Datagram), 3, 1, 'n', 'o'}
	in = AppendDatagram(in, []byte("first"))
	in = append(in, 0x21, 2, 9, 9)
	in = AppendDatagram(in, nil)
	in = append(in, capsuleOf(FinalData, "")...)
	d, p := NewDatagrams(bytes.NewReader(in)), make([]byte, 3)
	if n, err := d.Read(p); string(p[:n]) != "fir" || err != nil {
		t.Errorf("got %q, %v: want it cut to what was asked for", p[:n], err)
	}
	if n, err := d.Read(p); n != 0 || err != nil {
		t.Errorf("an empty datagram is read as %d bytes, %v", n, err)
	}
	if n, err := d.Read(p); n != 0 || err != io.EOF {
		t.Errorf("the end is %d, %v", n, err)
	}
}

// FuzzRead: no input gives more payload than it has bytes, every input has an end, and both ways to
// read a stream see the same.
func FuzzRead(f *testing.F) {
	f.Add(capsuleOf(FinalData, "abc"), false)
	f.Add(append(capsuleOf(Data, "abc"), capsuleOf(Moved, "")...), false)
	f.Add(AppendDatagram(nil, []byte("abc")), true)
	f.Fuzz(func(t *testing.T, in []byte, datagrams bool) {
		var r io.Reader = NewStream(bytes.NewReader(in))
		if datagrams {
			r = NewDatagrams(bytes.NewReader(in))
		}
		buf := make([]byte, 1<<16)
		var all []byte
		var end error
		for range len(in) + 2 {
			var n int
			n, end = r.Read(buf)
			all = append(all, buf[:n]...)
			if end != nil {
				break
			}
		}
		if len(all) > len(in) {
			t.Fatalf("%d bytes of payload from %d", len(all), len(in))
		}
		if _, err := r.Read(buf); err == nil {
			t.Fatal("no end")
		}
		if datagrams {
			return
		}
		var out bytes.Buffer
		_, err := NewStream(bytes.NewReader(in)).WriteTo(&out)
		if err == nil {
			err = io.EOF
		}
		if !bytes.Equal(out.Bytes(), all) || err.Error() != end.Error() {
			t.Fatalf("WriteTo gives %q, %v; Read gives %q, %v", out.Bytes(), err, all, end)
		}
	})
}

// BenchmarkStream reads capsules of a keystroke and of a full frame.
func BenchmarkStream(b *testing.B) {
	for _, size := range []int{64, chunk - HeaderSize} {
		b.Run(strconv.Itoa(size), func(b *testing.B) {
			one := make([]byte, HeaderSize+size)
			PutHeader(one, Data, size)
			in := bytes.NewReader(nil)
			s := NewStream(in)
			out := io.Writer(struct{ io.Writer }{io.Discard})
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				in.Reset(one)
				if err := s.next(); err != nil {
					b.Fatal(err)
				}
				if _, err := s.writeData(out); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
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
