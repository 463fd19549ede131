package seal

import (
	"net"
	"sync"
	"time"

	"ztm/tunnel/capsule"
)

// outbox lies between HTTP/2 and TLS. net/http writes the request for itself and the first bytes of its body for themselves, while it holds
// the session's lock. An outbox takes at once what comes, and a goroutine sends what has come by the time it runs: in one TLS record and one
// system call, if it is little. What the hub and the peer do for each record, they do once.
//
//	HTTP/2 frame, frame, frame -> pending -> flush: one Write of TLS
//
// It holds mostPending bytes at most; then a writer waits. A failure to send is the error of the next Write, and ends the connection.
type outbox struct {
	net.Conn
	carrier net.Conn // below Conn

	mu      sync.Mutex
	changed sync.Cond
	pending []byte // guarded by mu
	sending bool   // flush runs; guarded by mu
	err     error  // guarded by mu
}

// mostPending is what an outbox holds, in bytes: two frames of busy flows, four TLS records.
const mostPending = 2 * (capsule.Frame + 9)

// keptPending is what an outbox keeps for the next frames while it is empty, in bytes.
const keptPending = 2 << 10

func newOutbox(c, carrier net.Conn) *outbox {
	o := &outbox{Conn: c, carrier: carrier}
	o.changed.L = &o.mu
	return o
}

// Write takes p. It waits only where the carrier is slower than its writers.
func (o *outbox) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.err == nil && len(o.pending) > 0 && len(o.pending)+len(p) > mostPending {
		o.changed.Wait()
	}
	if o.err != nil {
		return 0, o.err
	}
	o.pending = append(o.pending, p...)
	if !o.sending {
		o.sending = true
		go o.flush() // Close waits for it
	}
	return len(p), nil
}

// flush sends until nothing is pending.
func (o *outbox) flush() {
	o.mu.Lock()
	defer o.mu.Unlock()
	var spare []byte
	for len(o.pending) > 0 && o.err == nil {
		b := o.pending
		o.pending = spare[:0]
		o.changed.Broadcast()
		o.mu.Unlock()
		_, err := o.Conn.Write(b)
		o.mu.Lock()
		if spare = b; err != nil {
			o.err = err
			o.carrier.Close() // who reads learns of it, too
		}
	}
	if o.pending = nil; cap(spare) <= keptPending {
		o.pending = spare[:0]
	}
	o.sending = false
	o.changed.Broadcast()
}

// Close sends what is pending and ends the connection, without waiting for a peer that reads nothing.
func (o *outbox) Close() error {
	impatient := time.AfterFunc(time.Second, func() { o.carrier.Close() })
	defer impatient.Stop()
	o.mu.Lock()
	for o.sending {
		o.changed.Wait()
	}
	if o.err == nil {
		o.err = net.ErrClosed
	}
	o.mu.Unlock()
	return o.Conn.Close()
}
