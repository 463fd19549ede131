package web

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"net"
	"os"
	"runtime"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// TestTheConsoleListensOnLoopbackAloneWithIPv6OnAndOff asks the kernel where it listens, in a network of
// the test's own.
func TestTheConsoleListensOnLoopbackAloneWithIPv6OnAndOff(t *testing.T) {
	for name, test := range map[string]struct {
		off  string
		want []string
	}{
		"on":  {"0", []string{"127.0.0.1", "::1"}},
		"off": {"1", []string{"127.0.0.1"}},
	} {
		t.Run(name, func(t *testing.T) {
			runtime.LockOSThread() // and never unlocked: the thread ends with the network
			if err := network(test.off); err != nil {
				t.Skip(err)
			}
			all, err := listen(0)
			if err != nil {
				t.Fatal(err)
			}
			got, err := listening()
			for _, ln := range all {
				ln.Close()
			}
			if err != nil || !slices.Equal(got, test.want) {
				t.Errorf("the console listens on %v, %v; want %v", got, err, test.want)
			}
			if got, err := listening(); err != nil || len(got) > 0 {
				t.Errorf("after it was shut it listens on %v, %v", got, err)
			}
		})
	}
}

// network gives this thread a network of its own, that has loopback alone.
func network(ipv6Off string) error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return err
	}
	if err := os.WriteFile("/proc/sys/net/ipv6/conf/all/disable_ipv6", []byte(ipv6Off), 0o600); err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo)
}

// listening returns the addresses on which somebody listens in the network of this thread.
func listening() (all []string, err error) {
	for _, file := range []string{"/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"} {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		for line := range bytes.Lines(text) {
			f := bytes.Fields(line)
			if len(f) < 4 || string(f[3]) != "0A" { // TCP_LISTEN
				continue
			}
			address, _, _ := bytes.Cut(f[1], []byte(":"))
			words := make([]byte, hex.DecodedLen(len(address)))
			if _, err := hex.Decode(words, address); err != nil {
				return nil, err
			}
			for word := range slices.Chunk(words, 4) { // in the order of this machine
				if binary.NativeEndian.Uint16([]byte{1, 0}) == 1 {
					slices.Reverse(word)
				}
			}
			all = append(all, net.IP(words).String())
		}
	}
	return all, nil
}
