package appstest

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"syscall"
	"testing"
)

// FreeAddress returns a loopback address on which nothing listens.
func FreeAddress(t testing.TB) string {
	t.Helper()
	return Loopback(FreePorts(t, 1))
}

// Loopback is the address of a port on this machine.
func Loopback(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }

// FreePorts returns the first of consecutive ports on which nothing listens. They are below those
// that the kernel gives to connections that go out (32768 and above on Linux): no other test's
// client can take them meanwhile.
func FreePorts(t testing.TB, size int) (first int) {
	t.Helper()
	for range 1000 {
		first = 10240 + rand.IntN(32768-10240-size)
		if allFree(first, size) {
			return first
		}
	}
	t.Fatalf("no %d free ports", size)
	return 0
}

func allFree(first, size int) bool {
	for i := range size {
		tcp, err := net.Listen("tcp", Loopback(first+i))
		if err != nil {
			return false
		}
		defer tcp.Close()
		udp, err := net.ListenPacket("udp", Loopback(first+i))
		if err != nil {
			return false
		}
		defer udp.Close()
	}
	return true
}

// Port returns the port of an address.
func Port(address string) string {
	_, port, _ := net.SplitHostPort(address)
	return port
}

// Taken reports whether somebody listens on an address; transport is "tcp" or "udp".
func Taken(transport, address string) bool {
	var c io.Closer
	var err error
	if transport == "udp" {
		c, err = net.ListenPacket("udp", address)
	} else {
		c, err = net.Listen("tcp", address)
	}
	if err == nil {
		c.Close()
	}
	return errors.Is(err, syscall.EADDRINUSE)
}
