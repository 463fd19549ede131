package listen

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"ztm/apps/appstest"
	"ztm/tunnel/answer"
)

func TestMain(m *testing.M) { os.Exit(appstest.Run(m)) }

// flakyListener fails a few times before it accepts.
type flakyListener struct {
	net.Listener
	failures int
}

func (l *flakyListener) Accept() (net.Conn, error) {
	if l.failures > 0 {
		l.failures--
		return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
	}
	return l.Listener.Accept()
}

func TestAcceptGoesOnAfterErrors(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	accepted, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		Accept(t.Context(), &flakyListener{ln, 3}, slog.New(slog.NewTextHandler(io.Discard, nil)), func(c net.Conn) {
			c.Close()
			close(accepted)
		})
	}()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	<-accepted
	ln.Close()
	<-done
}

func TestAcceptThatFailsForeverEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	Accept(ctx, &flakyListener{nil, 1 << 30}, slog.New(slog.NewTextHandler(io.Discard, nil)), nil)
}

func TestUnixListenerIsPrivateAndGoesWhenClosed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	ln, err := Unix(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket has mode %v, %v; want 0600", info.Mode(), err)
	}
	if _, err := Unix(t.Context(), path); answer.CodeOf(Error(path, 0, err)) != answer.Conflict {
		t.Errorf("a second listener: %v, want a conflict", err)
	}
	ln.Close()
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after the close: %v, want no file", err)
	}
}

func TestUnixSocketThatACrashLeftBehindIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	crashed, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	crashed.SetUnlinkOnClose(false)
	crashed.Close()
	ln, err := Unix(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
}

func TestFileThatIsNoSocketStays(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Unix(t.Context(), path); err == nil {
		t.Error("it was replaced")
	}
	if b, err := os.ReadFile(path); string(b) != "precious" {
		t.Errorf("the file has %q, %v", b, err)
	}
}

func TestMissingPrivilegeIsExplained(t *testing.T) {
	denied := &net.OpError{Op: "listen", Err: os.NewSyscallError("bind", syscall.EACCES)}
	for _, test := range []struct {
		address string
		port    uint16
		want    string
	}{
		{"127.0.0.1:80", 80, "listen 127.0.0.1:80: ports below 1024 need a privilege that this program does not have: " +
			"choose a higher port, or run it as root"},
		{"unix:/run/db.sock", 0, "listen unix:/run/db.sock: this program may not make a socket there: choose another directory"},
	} {
		if err := Error(test.address, test.port, denied); err.Code != answer.Denied || err.Error() != test.want {
			t.Errorf("got %s %q, want %q", err.Code, err, test.want)
		}
	}
}
