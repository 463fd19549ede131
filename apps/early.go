package apps

import (
	"context"
	"errors"
	"io"
	"net"
	"net/url"
	"os"
	"sync"
	"time"

	"ztm/tunnel/identity"
	"ztm/tunnel/splice"
)

// EarlyOpener is a [Mesh] that sends the first bytes of a client along with the request for its
// flow, instead of one round trip later.
type EarlyOpener interface {
	// OpenEarly is Open for the flow of a client: what the client sends meanwhile, up to
	// [EarlyLimit] bytes, is on its way before the exit has answered. The exit authorises and
	// connects before it looks at them. The request itself waits for no byte.
	//
	// The caller goes on with client in place of the connection that it wraps: it reads from the
	// first byte on, also those that were sent, and writes what it reads to the flow, in order and
	// before anything else. The flow leaves out what it has sent.
	//
	// A refusal of the exit means that nobody got the bytes, and the next exit is asked with the
	// same ones. If the way broke instead, they may have arrived: then the error is
	// [ErrUnknownOutcome], too, and asking another exit could do something twice.
	OpenEarly(ctx context.Context, to identity.ID, path string, query url.Values, client *Early) (net.Conn, error)
}

// OpenEarly opens the flow of a client by [EarlyOpener] where m is one, and by Open otherwise.
func OpenEarly(ctx context.Context, m Mesh, to identity.ID, path string, query url.Values, client *Early) (net.Conn, error) {
	if o, ok := m.(EarlyOpener); ok {
		return o.OpenEarly(ctx, to, path, query, client)
	}
	return m.Open(ctx, to, path, query)
}

// ErrUnknownOutcome is what an error of OpenEarly is when the exit may have acted on the first
// bytes without our knowing.
var ErrUnknownOutcome = errors.New("the exit may have acted on the first bytes")

// EarlyLimit is how many bytes of a client are on their way at most before the exit has answered.
// They are kept until then, in case another exit is to be asked: this much for each flow that is
// being opened.
const EarlyLimit = 16 << 10

// Early is the connection of a client whose first bytes may be sent before its flow is open. While
// one goroutine opens the flow nobody else reads.
type Early struct {
	net.Conn
	passed bool // nothing is kept any longer; owned by the reader

	mu   sync.Mutex
	left sync.Cond // an attempt has left Read
	kept []byte    // what attempts have read and Read has not returned yet; guarded by mu
	err  error     // what the client's Read said after that; guarded by mu
	busy bool      // an attempt reads from the client, or has to take back its deadline; guarded by mu
}

// NewEarly wraps the connection of a client. Nothing is read before the flow is being opened.
func NewEarly(client net.Conn) *Early {
	e := &Early{Conn: client}
	e.left.L = &e.mu
	return e
}

// Read returns what the client sent, from the first byte on.
func (e *Early) Read(p []byte) (int, error) {
	if e.passed {
		return e.Conn.Read(p)
	}
	e.mu.Lock()
	if len(e.kept) > 0 {
		n := copy(p, e.kept)
		e.kept = e.kept[n:]
		e.mu.Unlock()
		return n, nil
	}
	err := e.err
	e.kept = nil
	e.mu.Unlock()
	if err != nil {
		return 0, err
	}
	e.passed = true
	return e.Conn.Read(p)
}

// CloseWrite passes a half-close on to a client that can.
func (e *Early) CloseWrite() error { return splice.CloseWrite(e.Conn) }

// NetConn returns the connection of the client.
func (e *Early) NetConn() net.Conn { return e.Conn }

// WritesTo returns the connection of the client: what is written goes there as it is.
func (e *Early) WritesTo() net.Conn { return e.Conn }

// ReadsFrom returns the connection of the client, or nil while Read has bytes that were kept.
func (e *Early) ReadsFrom() net.Conn {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.kept) > 0 || e.err != nil {
		return nil
	}
	return e.Conn
}

// Attempt is for one opening: it gives the first bytes from the beginning. It is used by an
// [EarlyOpener]. A client whose Read cannot be interrupted gives none, and one gives nothing while
// another attempt reads from it.
func (e *Early) Attempt() *EarlyAttempt {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.passed = false
	return &EarlyAttempt{e: e, over: e.busy || e.SetReadDeadline(time.Time{}) != nil}
}

// EarlyAttempt is what one opening reads a client's first bytes from, while the opening lasts.
type EarlyAttempt struct {
	e       *Early
	sent    int  // of e.kept; guarded by e.mu
	reading bool // guarded by e.mu
	over    bool // guarded by e.mu

	interrupted bool // a deadline in the past is to be taken back; guarded by e.mu
}

// Read returns the bytes that are kept, then those that come. io.EOF says that the attempt has no
// more, for whatever reason.
func (a *EarlyAttempt) Read(p []byte) (n int, err error) {
	e := a.e
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case a.over || len(p) == 0:
		return 0, io.EOF
	case a.sent < len(e.kept):
		n = copy(p, e.kept[a.sent:])
		a.sent += n
		return n, nil
	case e.err != nil || e.busy || len(e.kept) >= EarlyLimit:
		return 0, io.EOF
	}
	a.reading, e.busy = true, true
	most := min(len(p), EarlyLimit-len(e.kept))
	e.mu.Unlock()
	n, err = e.Conn.Read(p[:most])
	e.mu.Lock()
	a.reading, e.busy = false, a.interrupted
	e.left.Broadcast()
	e.kept = append(e.kept, p[:n]...)
	if err != nil && !(a.over && errors.Is(err, os.ErrDeadlineExceeded)) {
		e.err = err
	}
	if a.over || n == 0 {
		return 0, io.EOF // what has come too late is kept
	}
	a.sent += n
	return n, nil
}

// Stop ends the attempt, also a Read that waits for the client, and returns how many bytes it has
// given. It may be called by several goroutines: after each call the client can be read again.
func (a *EarlyAttempt) Stop() int {
	e := a.e
	e.mu.Lock()
	defer e.mu.Unlock()
	a.over = true
	if a.reading {
		a.interrupted = true
		e.SetReadDeadline(time.Unix(1, 0))
		for a.reading {
			e.left.Wait()
		}
	}
	if a.interrupted { // by this call, or by one that has not come to it yet
		a.interrupted, e.busy = false, false
		e.SetReadDeadline(time.Time{})
	}
	return a.sent
}
