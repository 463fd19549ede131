package process

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
)

// FuzzFrames: what is read as frames is, when it is sent again, the same bytes; and nothing is read
// beyond a bound.
func FuzzFrames(f *testing.F) {
	f.Add([]byte("\x01\x00\x00\x02{}\x03\x00\x00\x01a\x04\x00\x00\x00\x05\x00\x00\x04\x00\x50\x00\x18"), false)
	f.Add([]byte("\x81\x00\x00\x02{}\x82\x00\x00\x03abc\x84\x00\x00\x04\x00\x10\x00\x00\x85\x00\x00\x02{}"), true)
	f.Add([]byte("\x03\xff\xff\xff"), false)
	f.Fuzz(func(t *testing.T, data []byte, caller bool) {
		near := &memory{in: bytes.NewReader(data)}
		c := Accepted(near)
		if caller {
			c = opened(near)
		}
		for {
			k, p, err := c.next()
			if err != nil {
				if errors.Is(err, io.EOF) && !bytes.Equal(near.out.Bytes(), data) {
					t.Errorf("%x was read as %x", data, near.out.Bytes())
				}
				break
			}
			if caller != (k&toCaller != 0) {
				t.Fatalf("frame of kind %#02x travels the wrong way", k)
			}
			if err := c.sendBytes(k, p); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.HasPrefix(data, near.out.Bytes()) {
			t.Errorf("%x was read as %x", data, near.out.Bytes())
		}
	})
}

// memory is a connection that reads from and writes to memory.
type memory struct {
	net.Conn
	in  *bytes.Reader
	out bytes.Buffer
}

func (m *memory) Read(p []byte) (int, error)  { return m.in.Read(p) }
func (m *memory) Write(p []byte) (int, error) { return m.out.Write(p) }
func (m *memory) Close() error                { return nil }

// FuzzDrive: whatever an endpoint sends, the caller's side returns.
func FuzzDrive(f *testing.F) {
	f.Add([]byte("\x81\x00\x00\x0e{\"program\":\"a\"}\x82\x00\x00\x03abc\x83\x00\x00\x01x\x85\x00\x00\x0c{\"status\":7}"))
	f.Add([]byte("\x86\x00\x00\x02{}"))
	f.Add([]byte("\x84\x00\x00\x04\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, data []byte) {
		st := Streams{Stdin: strings.NewReader("in"), Stdout: io.Discard, Stderr: io.Discard}
		if exit, err := Drive(&once{memory: memory{in: bytes.NewReader(data)}}, map[string]int{}, []byte("text"), st); err == nil && exit == (Exit{}) &&
			!bytes.Contains(data, []byte{byte(kindExit)}) {
			t.Error("a success that nobody sent")
		}
	})
}

// once is memory that may be written to by several goroutines.
type once struct{ memory }

func (*once) Write(p []byte) (int, error) { return len(p), nil }
