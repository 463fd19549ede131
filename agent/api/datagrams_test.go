package api

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"ztm/apps"
)

// wire is a connection that was recorded: reads come from in, writes go to out.
type wire struct {
	net.Conn
	in  io.Reader
	out bytes.Buffer
}

func (w *wire) Read(p []byte) (int, error)  { return w.in.Read(p) }
func (w *wire) Write(p []byte) (int, error) { return w.out.Write(p) }

func TestDatagramsKeepTheirBounds(t *testing.T) {
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	sent := [][]byte{{}, []byte("a"), bytes.Repeat([]byte("x"), apps.MaxDatagram), []byte("end")}
	go func() { // ends when all is read
		d := Datagrams(near)
		for _, p := range sent {
			if n, err := d.Write(p); n != len(p) || err != nil {
				t.Errorf("write of %d bytes: %d, %v", len(p), n, err)
			}
		}
		near.Close()
	}()
	d := Datagrams(far)
	buf := make([]byte, apps.MaxDatagram)
	for _, want := range sent {
		n, err := d.Read(buf)
		if err != nil || !bytes.Equal(buf[:n], want) {
			t.Fatalf("read %d bytes, %v; want %d", n, err, len(want))
		}
	}
	if _, err := d.Read(buf); err != io.EOF {
		t.Errorf("at the end: %v, want EOF", err)
	}
}

func TestDatagramsRefuseWhatTheyCannotCarry(t *testing.T) {
	w := &wire{}
	if _, err := Datagrams(w).Write(make([]byte, apps.MaxDatagram+1)); err == nil || w.out.Len() != 0 {
		t.Errorf("a datagram that is too long was sent: %v, %d bytes", err, w.out.Len())
	}
	d := Datagrams(&wire{in: bytes.NewReader([]byte{0xff, 0xff, 1, 2, 3})})
	for range 2 {
		if _, err := d.Read(make([]byte, 10)); err == nil {
			t.Error("a length above the largest was read")
		}
	}
}

func TestADatagramLongerThanTheBufferIsLostAlone(t *testing.T) {
	d := Datagrams(&wire{in: bytes.NewReader([]byte{0, 3, 'a', 'b', 'c', 0, 1, 'd'})})
	buf := make([]byte, 2)
	if _, err := d.Read(buf); !errors.Is(err, io.ErrShortBuffer) {
		t.Errorf("got %v, want a short buffer", err)
	}
	if n, err := d.Read(buf); err != nil || string(buf[:n]) != "d" {
		t.Errorf("the next one: %q, %v", buf[:n], err)
	}
}

func TestADatagramThatIsCutIsAnError(t *testing.T) {
	for _, in := range []string{"\x00", "\x00\x03ab"} {
		if _, err := Datagrams(&wire{in: bytes.NewReader([]byte(in))}).Read(make([]byte, 10)); err != io.ErrUnexpectedEOF {
			t.Errorf("%q: got %v", in, err)
		}
	}
}

func TestADeadlineInTheMiddleOfADatagramLosesNothing(t *testing.T) {
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	d := Datagrams(far)
	if err := d.SetReadDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Read(make([]byte, 10)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("got %v", err)
	}
	if err := d.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	go near.Write([]byte{0, 2, 'o', 'k'}) // ends when it is read
	buf := make([]byte, 10)
	if n, err := d.Read(buf); err != nil || string(buf[:n]) != "ok" {
		t.Errorf("got %q, %v", buf[:n], err)
	}
}

// FuzzDatagrams checks that what is read, written again, is what came in.
func FuzzDatagrams(f *testing.F) {
	f.Add([]byte{0, 0, 0, 1, 'a'})
	f.Add([]byte{0xff, 0xff})
	f.Fuzz(func(t *testing.T, in []byte) {
		d := Datagrams(&wire{in: bytes.NewReader(in)})
		w := &wire{}
		again := Datagrams(w)
		buf := make([]byte, apps.MaxDatagram)
		for {
			n, err := d.Read(buf)
			if err != nil {
				break
			}
			if _, err := again.Write(buf[:n]); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.HasPrefix(in, w.out.Bytes()) {
			t.Errorf("in %x, out %x", in, w.out.Bytes())
		}
	})
}
