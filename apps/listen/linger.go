package listen

import (
	"io"
	"net"
	"net/netip"
	"time"

	"ztm/tunnel/splice"
)

// lingerTimeout is how long a client may take to read why it was refused, and lingerBytes how much it may send
// meanwhile.
const (
	lingerTimeout = time.Second
	lingerBytes   = 32 << 10
)

// Linger is called before c is closed: it lets the client read what was written to it. Closing a connection with unread
// input would reset it, and take the answer away.
func Linger(c net.Conn) {
	c.SetDeadline(time.Now().Add(lingerTimeout))
	splice.CloseWrite(c)
	io.CopyN(io.Discard, c, lingerBytes)
}

// HostOf returns the address of a client without its port; the zero Addr for one without any, as at a unix socket.
func HostOf(a net.Addr) netip.Addr {
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap()
}
