package seal

import (
	"net"
	"sync"
	"time"

	"ztm/tunnel/h2"
)

// coalescer lies between HTTP/2 and TLS. net/http writes a request and the first bytes of its body
// one after the other, while it holds the session's lock. A coalescer takes at once what comes, and
// a goroutine sends what has come by the time it runs: in one TLS record and one system call, if it
// is little. The hub and the peer then handle one record instead of several.
//
//	HTTP/2 frame, frame, frame -> pending -> flush: one Write of TLS
//
// It holds mostPending bytes at most; then a writer waits. A failure to send is the error of the
// next Write, and ends the connection. It is safe for concurrent use.
type coalescer struct {
	net.Conn
	path net.Conn // below Conn

	mu      sync.Mutex
	changed sync.Cond
	pending []byte // guarded by mu
	sending bool   // flush runs; guarded by mu
	err     error  // guarded by mu
}

// mostPending is what a coalescer holds, in bytes: two frames of busy flows, four TLS records.
const mostPending = 2 * (h2.Frame + h2.FrameHeader)

// keptPending is what a coalescer keeps for the next frames while it is empty, in bytes.
const keptPending = 2 << 10

func newCoalescer(c, path net.Conn) *coalescer {
	w := &coalescer{Conn: c, path: path}
	w.changed.L = &w.mu
	return w
}

// Write takes p. It waits only where the path is slower than its writers.
func (w *coalescer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.err == nil && len(w.pending) > 0 && len(w.pending)+len(p) > mostPending {
		w.changed.Wait()
	}
	if w.err != nil {
		return 0, w.err
	}
	w.pending = append(w.pending, p...)
	if !w.sending {
		w.sending = true
		go w.flush() // Close waits for it
	}
	return len(p), nil
}

// flush sends until nothing is pending.
func (w *coalescer) flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	var last []byte
	for len(w.pending) > 0 && w.err == nil {
		b := w.pending
		w.pending = last[:0]
		w.changed.Broadcast()
		w.mu.Unlock()
		_, err := w.Conn.Write(b)
		w.mu.Lock()
		if last = b; err != nil {
			w.err = err
			w.path.Close() // who reads learns of it, too
		}
	}
	if w.pending = nil; cap(last) <= keptPending {
		w.pending = last[:0]
	}
	w.sending = false
	w.changed.Broadcast()
}

// Close sends what is pending and ends the connection, without waiting for a peer that reads
// nothing.
func (w *coalescer) Close() error {
	late := time.AfterFunc(time.Second, func() { w.path.Close() })
	defer late.Stop()
	w.mu.Lock()
	for w.sending {
		w.changed.Wait()
	}
	if w.err == nil {
		w.err = net.ErrClosed
	}
	w.mu.Unlock()
	return w.Conn.Close()
}
