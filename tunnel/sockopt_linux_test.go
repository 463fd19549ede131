package tunnel

import (
	"context"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestPathsHaveTime: the kernel gives up a control session that gets no answer, and leaves a path
// alone, whose reader may stall for as long as it likes.
func TestPathsHaveTime(t *testing.T) {
	ln := listen(t)
	c, err := (&Dialer{}).Dial(context.Background(), ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got := userTimeout(t, c); got != DeadPeerTimeout {
		t.Errorf("a connection to the hub has a timeout of %v, want %v", got, DeadPeerTimeout)
	}
	Unhurried(c)
	if got := userTimeout(t, c); got != 0 {
		t.Errorf("a path has a timeout of %v, want none", got)
	}
}

func userTimeout(t testing.TB, c net.Conn) time.Duration {
	t.Helper()
	rc, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var ms int
	var serr error
	err = rc.Control(func(fd uintptr) { ms, serr = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT) })
	if err != nil || serr != nil {
		t.Fatal(err, serr)
	}
	return time.Duration(ms) * time.Millisecond
}
