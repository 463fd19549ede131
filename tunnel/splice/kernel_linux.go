package splice

import "net"

// inKernel reports whether [io.Copy] moves bytes from src to dst by splice(2), without bringing them into this process:
// between two TCP sockets and between a TCP socket and a unix socket, in both directions.
func inKernel(dst, src net.Conn) bool {
	return isTCP(dst) && (isTCP(src) || isUnix(src)) || isTCP(src) && isUnix(dst)
}

func isUnix(c net.Conn) bool {
	_, ok := c.(*net.UnixConn)
	return ok
}
