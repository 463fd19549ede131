package seal

import (
	"net"

	"ztm/tunnel/capsule"
)

// Lane is a sealed connection that carries one flow and nothing else: see package capsule. One goroutine may read while another writes.
type Lane struct{ *sealed }

var _ capsule.Lane = (*Lane)(nil)

// Read returns as many records as have come, up to len(p).
func (l *Lane) Read(p []byte) (n int, err error) {
	for {
		m, err := l.sealed.Read(p[n:])
		n += m
		if err != nil || len(p)-n < record || !l.batch.another() {
			return n, err
		}
	}
}

// CloseWrite sends a close_notify: the peer reads to the end.
func (l *Lane) CloseWrite() error { return l.sealed.CloseWrite() }

// Close closes the connection.
func (l *Lane) Close() error { return l.sealed.Close() }

// Reset ends the connection at once. The peer reads an error, for there is no close_notify.
func (l *Lane) Reset() error {
	carrier := l.batch.Conn
	if tcp, ok := carrier.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	return carrier.Close()
}
