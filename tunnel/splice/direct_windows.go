package splice

import "net"

// directTCP returns nil: a socket of Go on Windows cannot be written to without waiting.
func directTCP(*net.TCPConn) func(p []byte) int { return nil }
