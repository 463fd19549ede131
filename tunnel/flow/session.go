package flow

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
)

// Session is a way to one peer that flows are opened on, whatever path its bytes take: through a
// hub, or directly. The peer was proven by its handshake. A Session is safe for concurrent use.
type Session interface {
	// Peer returns who is at the other end.
	Peer() identity.Subject

	// Reserve makes sure that one Open or RoundTrip that follows need not wait until another ends;
	// Release gives the place back where none follows. It fails where the session is over, or has
	// no place left. Without it a request may wait.
	Reserve() error
	Release()

	// Free returns how many places are neither in use nor reserved.
	Free() int

	// Open opens a flow. If the peer says no, the error is a *[Refused]; any other error means that
	// there was no answer, and that nobody knows whether the peer has begun. ctx governs the
	// opening alone.
	Open(ctx context.Context, r Request) (*Conn, error)

	// RoundTrip sends a plain request: a ping, a trust list, a request to manage the peer.
	RoundTrip(req *http.Request) (*http.Response, error)

	// Load returns the flows that are open or opening. loaded reports whether one of them holds up
	// the others: it moves much, or its reader has stopped, and it is not offloaded yet.
	Load() (flows int, loaded bool)

	// IdleSince returns when the last flow ended; false while there is one.
	IdleSince() (time.Time, bool)

	// Export returns bytes that both ends alone can know, for a context of theirs: RFC 8446 section 7.5.
	Export(context []byte, length int) ([]byte, error)

	// Ping waits for a sign of life of the peer, until ctx ends. Heard returns when there was one
	// last, and RTT the round trip, 0 if it is unknown.
	Ping(ctx context.Context) error
	Heard() time.Time
	RTT() time.Duration

	// Err returns why the session takes no more flows, for now or for good; nil if it does.
	Err() error

	// Done is closed when the session is over.
	Done() <-chan struct{}

	// Close ends the session and its flows at once. It may wait a second for a peer that reads
	// nothing.
	Close() error
}

// Request is what a flow is opened with.
type Request struct {
	Path      string     // the app and what is asked of it: "tunnel/tcp/web"
	Query     url.Values // parameters
	ID        string     // the flow ID, by which its dedicated connection and a second attempt are known
	Datagrams bool
	Early     Early // nil: nothing is sent before the answer
}

// Refused is the error of an opening that the peer has answered, with a no.
type Refused struct {
	Reason *answer.Error // the peer's own
}

func (r *Refused) Error() string { return r.Reason.Error() }
func (r *Refused) Unwrap() error { return r.Reason }
