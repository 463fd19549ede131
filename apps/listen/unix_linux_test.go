package listen

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// A server that is slow to accept is still a server: connections to it fail, but nobody refuses
// them.
func TestSocketWhoseQueueIsFullIsNotReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	server, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(server)
	address := &unix.SockaddrUnix{Name: path}
	if err := errors.Join(unix.Bind(server, address), unix.Listen(server, 0)); err != nil {
		t.Fatal(err)
	}
	for full := false; !full; {
		c, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(c)
		full = errors.Is(unix.Connect(c, address), unix.EAGAIN)
	}
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if ln, err := Unix(t.Context(), path); err == nil {
		ln.Close()
		t.Error("the socket was taken from its server")
	}
	if after, err := os.Stat(path); err != nil || !os.SameFile(before, after) {
		t.Errorf("the socket of the server is gone: %v", err)
	}
}
