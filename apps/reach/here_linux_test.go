package reach

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"ztm/tunnel/answer"
)

// bare is a socket that nobody waits for.
type bare int

func (b bare) Control(f func(fd uintptr)) error { f(uintptr(b)); return nil }
func (bare) Read(func(uintptr) bool) error      { return errors.ErrUnsupported }
func (bare) Write(func(uintptr) bool) error     { return errors.ErrUnsupported }

func TestATargetOfThisMachineIsConnectedBeforeTheDiallerWaits(t *testing.T) {
	for network, family := range map[string]int{"tcp4": unix.AF_INET, "tcp6": unix.AF_INET6} {
		t.Run(network, func(t *testing.T) {
			ln, err := net.Listen(network, ":0")
			if err != nil {
				t.Skip(err) // a machine without IPv6
			}
			defer ln.Close()
			to := netip.MustParseAddrPort(ln.Addr().String())
			at := netip.AddrPortFrom(netip.IPv6Loopback(), to.Port())
			if network == "tcp4" {
				at = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), to.Port())
			}
			fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				t.Skip(err)
			}
			defer unix.Close(fd)
			if err := connectHere(network, at.String(), bare(fd)); err != nil {
				t.Fatal(err)
			}
			if _, err := unix.Getpeername(fd); err != nil {
				t.Errorf("it is not connected: %v", err)
			}
		})
	}
}

func TestATargetOfThisMachineThatRefusesIsSaidToRefuse(t *testing.T) {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0) // has a port, and does not listen
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Dialer{}.Host(t.Context(), "tcp", "127.0.0.1", uint16(sa.(*unix.SockaddrInet4).Port))
	if !errors.Is(err, syscall.ECONNREFUSED) || answer.CodeOf(Explain("the target", err)) != answer.Refused {
		t.Errorf("it says %v", err)
	}
}
