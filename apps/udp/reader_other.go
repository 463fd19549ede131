//go:build !unix

package udp

import "net"

// taker is for systems that tell without a buffer that a socket can be read.
func taker(*net.UDPConn) func() (*[]byte, int, error) { return nil }
