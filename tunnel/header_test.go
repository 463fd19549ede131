package tunnel

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/quic-go/qpack"
)

func block(t testing.TB, fields ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := WriteHeader(&b, fields...); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// raw is a block that WriteHeader would not write.
func raw(fields ...string) []byte {
	var section bytes.Buffer
	enc := qpack.NewEncoder(&section)
	for i := 0; i < len(fields); i += 2 {
		enc.WriteField(qpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return append([]byte{0x01, 0x40 | byte(section.Len()>>8), byte(section.Len())}, section.Bytes()...)
}

func TestHeaderBlockComesBackAndNothingBehindItIsRead(t *testing.T) {
	b := append(block(t, ":method", "CONNECT", ":authority", "abc", "ticket", "7"), "raw bytes"...)
	r := bytes.NewReader(b)
	h, err := ReadHeader(r)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Header{":method": "CONNECT", ":authority": "abc", "ticket": "7"}, h); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	rest, _ := io.ReadAll(r)
	if string(rest) != "raw bytes" {
		t.Errorf("left %q", rest)
	}
}

func TestHeaderBlockVector(t *testing.T) { // for whoever writes a second implementation: docs/protocol.md has it
	want := []byte{0x01, 0x40, 0x03, 0x00, 0x00, 0xd9} // :status 200 is static table entry 25
	if diff := cmp.Diff(want, block(t, ":status", "200")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestHeaderBlocksThatAreRefused(t *testing.T) {
	long := strings.Repeat("~", 9000)
	cases := []struct {
		name string
		in   []byte
		want string
	}{
		{"empty input", nil, "EOF"},
		{"another frame type", []byte{0x00, 0x00}, "frame type"},
		{"a length over the limit", []byte{0x01, 0x80, 0x01, 0x00, 0x00}, "over the limit"},
		{"a length of 2^62-1", append([]byte{0x01, 0xff}, bytes.Repeat([]byte{0xff}, 7)...), "over the limit"},
		{"cut in the section", block(t, ":status", "200")[:5], "unexpected EOF"},
		{"a repeated field", raw("ticket", "1", "ticket", "2"), "repeated"},
		{"an unknown pseudo-field", raw(":user", "root"), "unknown pseudo-field"},
		{"upper case", raw("Ticket", "1"), "not lower case"},
		{"an empty name", raw("", "1"), "not lower case"},
		{"a dynamic table", []byte{0x01, 0x40, 0x03, 0x01, 0x00, 0x80}, "Required Insert Count"},
		{"a section over the limit", raw("a", strings.Repeat("0", 20000)), "over the limit"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := ReadHeader(bytes.NewReader(c.in))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want …%s…", err, c.want)
			}
		})
	}
	if err := WriteHeader(io.Discard, "a", long); err == nil {
		t.Error("a block over the limit was written")
	}
}

func FuzzReadHeader(f *testing.F) {
	f.Add(block(f, ":method", "CONNECT", ":authority", "abc", "ticket", "7"))
	f.Add(block(f, ":status", "200"))
	f.Add([]byte{0x01, 0x02, 0x00, 0x00})
	f.Fuzz(func(t *testing.T, in []byte) {
		h, err := ReadHeader(bytes.NewReader(in))
		if err != nil || len(h) == 0 {
			return
		}
		var fields []string
		for k, v := range h {
			fields = append(fields, k, v)
		}
		var b bytes.Buffer
		if err := WriteHeader(&b, fields...); err != nil {
			return // our own limit is on the encoded size, which may differ
		}
		again, err := ReadHeader(&b)
		if err != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
		if diff := cmp.Diff(h, again); diff != "" {
			t.Errorf("(-first +second):\n%s", diff)
		}
	})
}
