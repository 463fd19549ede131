package splice

import (
	"io"
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

// dial returns the two ends of a TCP connection.
func dial(t *testing.T) (outer, inner net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if outer, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if inner, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { outer.Close(); inner.Close() })
	return outer, inner
}

// noMoreDescriptors makes every new descriptor an error until the test ends.
func noMoreDescriptors(t *testing.T) {
	t.Helper()
	for len(idlePipes) > 0 {
		p := <-idlePipes
		p.held = 1 // a pipe with something in it is not kept
		p.release()
	}
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 3, Max: was.Max}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Setrlimit(unix.RLIMIT_NOFILE, &was) })
}

func TestBytesMoveWithoutAPipe(t *testing.T) {
	outerA, innerA := dial(t)
	outerB, innerB := dial(t)
	noMoreDescriptors(t)
	io.WriteString(outerA, "question")
	io.WriteString(outerB, "answer")
	outerA.(*net.TCPConn).CloseWrite()
	outerB.(*net.TCPConn).CloseWrite()
	ab, ba, err := Join(t.Context(), innerA, innerB)
	if ab != 8 || ba != 6 || err != nil {
		t.Errorf("Join returned %d, %d, %v; want 8, 6, nil", ab, ba, err)
	}
	for c, want := range map[net.Conn]string{outerA: "answer", outerB: "question"} {
		if got, err := io.ReadAll(c); string(got) != want || err != nil {
			t.Errorf("read %q, %v; want %q", got, err, want)
		}
	}
}
