package seal

import (
	"ztm/tunnel/flow"
	"ztm/tunnel/gather"
)

// Dedicated is a sealed connection that carries one flow and nothing else: see [flow.Dedicated].
type Dedicated struct{ *sealed }

var _ flow.Dedicated = (*Dedicated)(nil)

// Read returns as many records as have come, up to len(p).
func (d *Dedicated) Read(p []byte) (n int, err error) {
	for {
		m, err := d.sealed.Read(p[n:])
		n += m
		if err != nil || len(p)-n < gather.Record || !d.batch.another() {
			return n, err
		}
	}
}

// CloseWrite sends a close_notify: the peer reads to the end. It waits for a peer that reads nothing,
// as Write does, and not 5 seconds as crypto/tls does: a reader may pause for longer.
func (d *Dedicated) CloseWrite() error {
	d.batch.patient.Store(true)
	defer d.batch.patient.Store(false)
	return d.sealed.CloseWrite()
}

// Close closes the connection.
func (d *Dedicated) Close() error { return d.sealed.Close() }

// Reset ends the connection at once. The peer reads an error, for there is no close_notify.
func (d *Dedicated) Reset() error {
	path := d.batch.Conn.Conn
	if tcp, ok := path.(interface{ SetLinger(int) error }); ok {
		tcp.SetLinger(0)
	}
	return path.Close()
}
