package splice_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	sys "golang.org/x/sys/unix"
)

// readByProcess returns how many bytes this process has read by read(2) and its like. What
// splice(2) moves is not in it.
func readByProcess(t testing.TB) (n int64) {
	t.Helper()
	b, err := os.ReadFile("/proc/self/io")
	if err != nil {
		t.Skip("the kernel keeps no account of this:", err)
	}
	if _, err := fmt.Sscanf(string(b), "rchar: %d", &n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestBytesBetweenSocketsStayInTheKernel(t *testing.T) {
	const size = 32 << 20
	for _, test := range []struct {
		name   string
		a, b   pair
		copies int64 // of the bytes that come into this process to be sent on
	}{
		{"tcp-tcp", tcp, tcp, 0},
		{"tcp-unix", tcp, unix, 0},
		{"unix-tcp", unix, tcp, 0},
		{"unix-unix", unix, unix, 0},
		{"wrapped-tcp", wrapped, tcp, 1}, // proves the method of measuring
	} {
		t.Run(test.name, func(t *testing.T) {
			r := start(t, t.Context(), test.a, test.b)
			before := readByProcess(t)
			sent := make(chan struct{})
			go func() { // ends with the receive below
				defer close(sent)
				io.Copy(struct{ io.Writer }{r.a}, io.LimitReader(zeros{}, size))
				closeWrite(t, r.a)
			}()
			if n, err := io.Copy(io.Discard, struct{ io.Reader }{r.b}); n != size || err != nil {
				t.Errorf("%d bytes arrived, %v", n, err)
			}
			<-sent
			copied := readByProcess(t) - before - size // the client's own reading
			if got := (copied + size/2) / size; got != test.copies {
				t.Errorf("%d bytes were read to move %d", copied, size)
			}
			closeWrite(t, r.b)
			r.wait(t, size, 0, nil)
		})
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

// A peer that ended its direction and then reset the connection is gone: that the other direction
// ends is no failure.
func TestHalfCloseTowardsAPeerThatIsGone(t *testing.T) {
	outerA, innerA := tcp(t)
	outerB, innerB := tcp(t)
	r := start(t, t.Context(),
		func(testing.TB) (net.Conn, net.Conn) { return outerA, innerA },
		func(testing.TB) (net.Conn, net.Conn) { return outerB, innerB })
	closeWrite(t, outerB)
	reads(t, outerA, "", nil) // Join has seen the end of b
	reset(t, outerB)
	waitClosed(t, innerB.(*net.TCPConn))
	closeWrite(t, outerA)
	r.wait(t, 0, 0, nil)
}

// waitClosed waits until the kernel has seen the reset of a connection.
func waitClosed(t *testing.T, c *net.TCPConn) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for closed := false; !closed; <-tick.C {
		err := raw.Control(func(fd uintptr) {
			info, err := sys.GetsockoptTCPInfo(int(fd), syscall.IPPROTO_TCP, sys.TCP_INFO)
			closed = err == nil && info.State == sys.BPF_TCP_CLOSE
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// descriptors counts the open descriptors of this process whose name begins so: "socket:" or
// "pipe:".
func descriptors(t testing.TB, kind string) (n int) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip(err)
	}
	for _, e := range entries {
		if to, _ := os.Readlink("/proc/self/fd/" + e.Name()); strings.HasPrefix(to, kind) {
			n++
		}
	}
	return n
}

// keptEnds is how many ends of pipes are kept for the next who needs one.
const keptEnds = 2 * 16

func TestJoinLeavesNoDescriptorBehind(t *testing.T) {
	sockets, pipes := descriptors(t, "socket:"), descriptors(t, "pipe:")
	for range 50 {
		r := start(t, t.Context(), tcp, tcp)
		r.a.Close()
		r.b.Close()
		<-r.done
	}
	if after := descriptors(t, "socket:"); after != sockets {
		t.Errorf("%d sockets are open, before it were %d", after, sockets)
	}
	if after := descriptors(t, "pipe:"); after > pipes+keptEnds {
		t.Errorf("%d ends of pipes are open, before it were %d", after, pipes)
	}
}

func TestIdleJoinsHoldNoPipes(t *testing.T) {
	before := descriptors(t, "pipe:")
	for range 50 {
		r := start(t, t.Context(), tcp, tcp)
		for _, c := range []net.Conn{r.a, r.b} { // both directions have moved something, and wait
			write(t, c, "x")
		}
		for _, c := range []net.Conn{r.a, r.b} {
			io.ReadFull(c, make([]byte, 1))
		}
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	late := time.After(60 * time.Second)
	for descriptors(t, "pipe:")-before > keptEnds {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("50 idle joins hold %d ends of pipes", descriptors(t, "pipe:")-before)
		}
	}
}

func TestPipeWithLostBytesIsNotUsedAgain(t *testing.T) {
	for range 5 { // leave a pipe full by cutting a stalled join
		ctx, cancel := context.WithCancel(t.Context())
		r := start(t, ctx, tcp, tcp)
		stall(t, r.a)
		cancel()
		<-r.done
	}
	for range 40 { // more than the pipes that are kept
		r := start(t, t.Context(), tcp, tcp)
		write(t, r.a, "x")
		closeWrite(t, r.a)
		reads(t, r.b, "x", nil)
	}
}
