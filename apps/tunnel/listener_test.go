package tunnel

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"syscall"
	"testing"

	"ztm/apps"
)

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
		accept(t.Context(), &flakyListener{ln, 3}, slog.New(slog.NewTextHandler(io.Discard, nil)), func(c net.Conn) {
			c.Close()
			close(accepted)
		})
	}()
	dial(t, ln.Addr().String())
	<-accepted
	ln.Close()
	<-done
}

func TestAcceptThatFailsForeverEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	accept(ctx, &flakyListener{nil, 1 << 30}, slog.New(slog.NewTextHandler(io.Discard, nil)), nil)
}

// Who writes 0.0.0.0 means the addresses of IPv4.
func TestAllAddressesAreThoseOfTheVersionThatIsWritten(t *testing.T) {
	if probe, err := net.Listen("tcp6", "[::1]:0"); err != nil {
		t.Skip("no IPv6 here: ", err)
	} else {
		probe.Close()
	}
	for _, test := range []struct {
		host   string
		v4, v6 bool
	}{{"0.0.0.0", true, false}, {"*", true, true}, {"[::]", true, true}, {"127.0.0.1", true, false}, {"[::1]", false, true}} {
		for _, transport := range []string{TCP, UDP} {
			a, err := ParseAddress(test.host + ":0")
			if err != nil {
				t.Fatal(err)
			}
			l := newListener(transport, a)
			if err := l.open(); err != nil {
				t.Fatal(err)
			}
			bound := l.status().Address
			for host, want := range map[string]bool{"127.0.0.1": test.v4, "::1": test.v6} {
				if got := taken(transport, net.JoinHostPort(host, port(bound))); got != want {
					t.Errorf("%s %s listens on %s: %v, want %v", transport, a, host, got, want)
				}
			}
			l.close()
		}
	}
}

// taken reports whether somebody listens on an address.
func taken(transport, address string) bool {
	var c io.Closer
	var err error
	if transport == UDP {
		c, err = net.ListenPacket("udp", address)
	} else {
		c, err = net.Listen("tcp", address)
	}
	if err == nil {
		c.Close()
	}
	return errors.Is(err, syscall.EADDRINUSE)
}

func listenOn(t *testing.T, path string) *listener {
	t.Helper()
	l := newListener(TCP, Address{Path: path})
	t.Cleanup(l.close)
	return l
}

func TestUnixListenerIsPrivateAndGoesWhenClosed(t *testing.T) {
	path := t.TempDir() + "/socket"
	l := listenOn(t, path)
	if err := l.open(); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket has mode %v, %v; want 0600", info.Mode(), err)
	}
	if err := listenOn(t, path).open(); apps.CodeOf(err) != apps.Conflict {
		t.Errorf("a second listener: %v, want a conflict", err)
	}
	l.close()
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after the close: %v, want no file", err)
	}
}

func TestUnixSocketThatACrashLeftBehindIsReplaced(t *testing.T) {
	path := t.TempDir() + "/socket"
	crashed, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	crashed.SetUnlinkOnClose(false)
	crashed.Close()
	if err := listenOn(t, path).open(); err != nil {
		t.Error(err)
	}
}

func TestListenerThatWasClosedDoesNotOpenAgain(t *testing.T) {
	l := newListener(TCP, Address{Host: "127.0.0.1"})
	l.close()
	if err := l.open(); err == nil {
		t.Error("it opened")
	}
}

func TestMissingPrivilegeIsExplained(t *testing.T) {
	denied := &net.OpError{Op: "listen", Err: os.NewSyscallError("bind", syscall.EACCES)}
	for _, test := range []struct {
		address Address
		want    string
	}{
		{Address{Host: "127.0.0.1", First: 80, Last: 80}, "listen 127.0.0.1:80: ports below 1024 need a privilege that this program does not have: " +
			"choose a higher port, or run it as root"},
		{Address{Path: "/run/db.sock"}, "listen unix:/run/db.sock: this program may not make a socket there: choose another directory"},
	} {
		if err := listenError(test.address, denied); err.Code != apps.Denied || err.Error() != test.want {
			t.Errorf("got %s %q, want %q", err.Code, err, test.want)
		}
	}
}
