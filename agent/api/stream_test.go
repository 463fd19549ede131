package api

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// streams returns both ends of a stream over a socket in the file system.
func streams(t *testing.T) (near, far net.Conn) {
	t.Helper()
	ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Skip(err)
	}
	defer ln.Close()
	a, err := net.Dial("unix", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return Stream(a), Stream(b)
}

func TestAStreamHalfCloses(t *testing.T) {
	near, far := streams(t)
	data := bytes.Repeat([]byte("0123456789"), 50_000)
	go func() { // ends when all is read
		near.Write(data)
		near.(*stream).CloseWrite()
	}()
	got, err := io.ReadAll(far)
	if err != nil || !bytes.Equal(got, data) {
		t.Fatalf("read %d bytes of %d, %v", len(got), len(data), err)
	}
	if n, err := near.Write([]byte("x")); n != 0 || err == nil {
		t.Errorf("wrote %d bytes after the end, %v", n, err)
	}
	if err := near.(*stream).CloseWrite(); err != nil {
		t.Errorf("the second CloseWrite: %v", err)
	}
	if _, err := far.Write([]byte("answer")); err != nil {
		t.Fatal(err)
	}
	far.Close()
	if b, err := io.ReadAll(near); string(b) != "answer" || err != nil {
		t.Errorf("after the end of the other direction: %q, %v", b, err)
	}
}

func TestAStreamThatIsCutIsNotAtItsEnd(t *testing.T) {
	for name, cut := range map[string]func(*stream){
		"reset":           func(s *stream) { s.Reset() },
		"killed":          func(s *stream) { s.Conn.Close() },
		"cut in a frame":  func(s *stream) { s.Conn.Write([]byte{0, 0, 0, 9, 1}); s.Conn.Close() },
		"cut in a length": func(s *stream) { s.Conn.Write([]byte{9}); s.Conn.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			near, far := streams(t)
			if _, err := near.Write([]byte("half")); err != nil {
				t.Fatal(err)
			}
			cut(near.(*stream))
			if b, err := io.ReadAll(far); !errors.Is(err, errCut) || !bytes.HasPrefix(b, []byte("half")) {
				t.Errorf("read %q, %v", b, err)
			}
			if _, err := far.Read(make([]byte, 1)); !errors.Is(err, errCut) {
				t.Errorf("and once more: %v", err)
			}
		})
	}
}

func TestCloseDoesNotWaitForAReaderThatStandsStill(t *testing.T) {
	near, _ := streams(t)
	near.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
	for {
		if _, err := near.Write(make([]byte, 32<<10)); err != nil {
			break
		}
	}
	near.Close() // or the test does not end
}

func TestADeadlineInTheMiddleOfALengthLosesNothing(t *testing.T) {
	near, far := streams(t)
	near.(*stream).Conn.Write([]byte{0})
	far.SetReadDeadline(time.Now().Add(time.Millisecond))
	if _, err := far.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("got %v", err)
	}
	far.SetReadDeadline(time.Time{})
	near.(*stream).Conn.Write([]byte{0, 0, 2, 'h', 'i', 0, 0, 0, 0})
	if b, err := io.ReadAll(far); string(b) != "hi" || err != nil {
		t.Errorf("read %q, %v", b, err)
	}
}

func TestADeadlineInTheMiddleOfAFrameLosesNothing(t *testing.T) {
	near, far := streams(t)
	near.(*stream).Conn.Write(append([]byte{0, 0, 0x20, 0}, make([]byte, readAhead-lengthBytes)...))
	far.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	p := make([]byte, 4*readAhead)
	if n, err := far.Read(p); n != readAhead-lengthBytes || err != nil {
		t.Errorf("of what has come it read %d bytes, %v", n, err)
	}
	if n, err := far.Read(p); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("then it read %d bytes, %v", n, err)
	}
	far.SetReadDeadline(time.Time{})
	near.(*stream).Conn.Write(make([]byte, 0x2000-readAhead+lengthBytes))
	near.Close()
	if b, err := io.ReadAll(far); len(b) != 0x2000-readAhead+lengthBytes || err != nil {
		t.Errorf("read %d bytes, %v", len(b), err)
	}
}

func TestALargeFrameThatIsHereIsReadAtOnce(t *testing.T) {
	near, far := streams(t)
	data := bytes.Repeat([]byte("0123456"), 1_000)
	if _, err := near.Write(data); err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 2*len(data))
	if n, err := far.Read(p); err != nil || !bytes.Equal(p[:n], data) {
		t.Errorf("read %d bytes, %v", n, err)
	}
}

// FuzzStream: whatever comes, a stream has no more bytes than came, and ends in order only where
// that was said.
func FuzzStream(f *testing.F) {
	f.Add([]byte{0, 0, 0, 2, 'h', 'i', 0, 0, 0, 0})
	f.Add([]byte{0, 0, 0, 2, 'h'})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, in []byte) {
		got, err := io.ReadAll(Stream(&wire{in: bytes.NewReader(in)}))
		if len(got) > len(in) || err != nil && !errors.Is(err, errCut) {
			t.Fatalf("%d bytes of %d, %v", len(got), len(in), err)
		}
		if err != nil {
			return
		}
		again := &wire{}
		s := Stream(again).(*stream)
		s.Write(got)
		s.CloseWrite()
		if back, err := io.ReadAll(Stream(&wire{in: &again.out})); err != nil || !bytes.Equal(back, got) {
			t.Errorf("%q became %q, %v", got, back, err)
		}
	})
}
