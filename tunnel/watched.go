package tunnel

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"ztm/tunnel/gather"
)

// ErrRejected is returned when the hub has looked at this endpoint's certificate and ended the
// connection: the user was evicted, or the certificate is not valid now by the hub's clock.
var ErrRejected = errors.New("the hub does not accept this endpoint's certificate: it or its user was evicted, or a clock is wrong")

// watched is a connection with a hub, in which the hub may have the last word before it has the
// first: in TLS 1.3 a client has finished the handshake, and sends, before the server has verified
// its certificate. The alert that says "no" (RFC 8446 section 6.2) is then what the first read
// gets, while HTTP/2 complains of a write that failed.
type watched struct {
	net.Conn
	below  *gather.Conn
	closed func() // called by Close, which is also how net/http tells that it gave up: a PING had no answer

	mu       sync.Mutex
	answered bool  // something was read
	err      error // of the first read that failed
}

// alertTimeout is how long a connection that ends before the hub said anything waits for a word. If
// there is one it has come already, together with the end.
const alertTimeout = 200 * time.Millisecond

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answered = w.answered || n > 0
	if w.err == nil {
		w.err = err
	}
	return n, err
}

func (w *watched) Write(p []byte) (int, error) { return w.below.Through(w.Conn, p) }

func (w *watched) Close() error {
	w.mu.Lock()
	silent := !w.answered && w.err == nil
	w.mu.Unlock()
	if silent {
		w.Conn.SetReadDeadline(time.Now().Add(alertTimeout))
		w.Read(make([]byte, 1))
	}
	w.closed()
	return w.Conn.Close()
}

// reason returns [ErrRejected] if that is why a request failed, and otherwise err.
func (w *watched) reason(err error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	var remote *net.OpError
	// "remote error" is how crypto/tls marks an alert.
	if !w.answered && errors.As(w.err, &remote) && remote.Op == "remote error" {
		return fmt.Errorf("%w (%v)", ErrRejected, w.err)
	}
	return err
}
