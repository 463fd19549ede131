//go:build !linux

package udp

import (
	"net/netip"
	"syscall"
)

// Here the system picks the address from which a socket for all addresses answers. Where a machine
// has several, listen on each of them by itself.

const localSpace = 0

func controlLocal(_, _ string, _ syscall.RawConn) error { return nil }
func parseLocal([]byte) netip.Addr                      { return netip.Addr{} }
func formatLocal(netip.Addr) []byte                     { return nil }
