package appstest

import (
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"testing"

	"ztm/tunnel/freeport"
)

// FreeAddress returns a loopback address on which nothing listens.
func FreeAddress(t testing.TB) string {
	t.Helper()
	return Loopback(FreePorts(t, 1))
}

// Loopback is the address of a port on this machine.
func Loopback(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }

// FreePorts returns the first of consecutive ports on which nothing listens. No other test gets
// them before this one ends.
func FreePorts(t testing.TB, size int) (first int) {
	t.Helper()
	first, release, err := freeport.Lease(size)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	return first
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
