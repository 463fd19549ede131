// Package control is the sessions of a membership with hubs, and what goes through them: the record
// of this endpoint, events, and paths to peers.
//
//	hubs.go    which hubs there are, and where
//	choose.go  which of them this endpoint wants
//	run.go     how it comes to its sessions and keeps them
//	link.go    one session: dial, register, events, until it ends
//	watch.go   which of them serves; what is done about a hub that hangs
//
// A path to a peer is a relay connection of its own (path.go), the next of which may stand by
// (standby.go). What a hub wants of this endpoint is a dial-back (dialback.go), or for Config.Event.
package control

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"ztm/agent/api"
	"ztm/agent/limits"
	"ztm/tunnel"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	"ztm/tunnel/inflight"
	"ztm/tunnel/limit"
	"ztm/tunnel/unixtime"
)

// Config is what a Control needs of the membership that it belongs to. All of it is set, but for a
// Control that only visits hubs: that one needs the first seven.
type Config struct {
	Mesh        string // its name here, for messages
	Self        identity.ID
	Dialer      *tunnel.Dialer
	Verifier    *identity.Verifier
	Certificate func() tls.Certificate
	Hubs        func() []string // addresses that a permit or a person gave

	// Record signs the record of this endpoint, as of a time in Unix milliseconds.
	Record func(at unixtime.Millis, offers []string) ([]byte, error)

	Slots int                          // with how many hubs there is to be a session
	Kept  [][]byte                     // signed records of hubs, as Keep had them last
	Keep  func(docs [][]byte)          // keeps them
	Sign  func(hub identity.ID) []byte // identity.SignAttach; nil: nothing

	Log     *slog.Logger
	PeerLog *limit.Log // of what peers can cause
	Limits  limits.Table
	Work    *inflight.Tracker // what the membership waits for at its end
	Life    context.Context   // of the membership

	// Event handles an event that is not for this package. It must not block.
	Event func(s *tunnel.Session, hub identity.Subject, e tunnel.Event)

	// Trust compares the trust list of a hub with the one in force. e is what the hub said of its own
	// last.
	Trust func(s *tunnel.Session, e tunnel.Event)

	// HubsOf returns hubs that a peer is said to be with.
	HubsOf func(peer identity.ID) []identity.ID

	// Lost is called when a hub hangs that paths go through.
	Lost func(hub identity.ID)

	// Accept serves what a peer seals in a path through a hub. It returns when the handshake is
	// done, which ctx governs. Who the peer is, and of which user, is the hub's word.
	Accept func(ctx context.Context, path net.Conn, from identity.ID, user string, hub identity.ID)
}

// Control is made with [New]. Its methods may be called from any goroutine.
type Control struct {
	Config
	woken     chan struct{}  // plan is to look again, capacity 1
	attempts  sync.WaitGroup // links
	begin     func(*link)    // runs an attempt in attempts; constant but in tests
	fallbacks atomic.Int64   // paths that are streams of a session

	dialBacks   *limit.Share[string] // at work, by user, as the hub has it
	dialBacksOf limit.Counts[identity.ID]
	fetches     limit.Counts[struct{}] // of the list of hubs

	mu            sync.Mutex
	links         []*link             // sessions and attempts, the oldest first; guarded by mu
	places        map[string]*place   // by key; guarded by mu
	notBefore     time.Time           // no attempt begins earlier; guarded by mu
	homeAt        time.Time           // when a better hub is tried; zero: there is none; guarded by mu
	lookAt        time.Time           // when a hub without a session is measured; zero: not decided; guarded by mu
	lost          time.Time           // when the last session was lost, or the Control was made; guarded by mu
	status        api.Status          // guarded by mu
	statusErr     error               // guarded by mu
	statusChanged chan struct{}       // closed and replaced at each change; guarded by mu
	offersOf      map[string][]string // per app; guarded by mu
	retracted     bool                // nothing is offered any longer; guarded by mu
	offers        []string            // all of them, "APP/NAME", sorted; replaced, never changed; guarded by mu
	offered       int                 // how often offers changed; guarded by mu
	recordTime    unixtime.Millis     // of the last record; guarded by mu
}

// New makes a Control, which has no session yet.
func New(c Config) *Control {
	made := &Control{
		Config: c, woken: make(chan struct{}, 1), places: map[string]*place{},
		dialBacks: limit.NewShare[string](max(c.Limits.DialBacks, 1)), status: api.Connecting, lost: time.Now(),
		statusChanged: make(chan struct{}), offersOf: map[string][]string{},
	}
	made.begin = made.run
	made.recall(c.Kept)
	return made
}

func (c *Control) setStatusLocked(s api.Status, err error) {
	c.status, c.statusErr = s, err
	close(c.statusChanged)
	c.statusChanged = make(chan struct{})
}

// Now returns the best session, nil while there is none, and the hub it is with.
func (c *Control) Now() (*tunnel.Session, identity.Subject) {
	c.mu.Lock()
	ready := c.readyLocked()
	c.mu.Unlock()
	if len(ready) == 0 {
		return nil, identity.Subject{}
	}
	c.sort(ready, nil, "")
	return ready[0].session, ready[0].hub
}

// Status returns how the session is, and what went wrong last.
func (c *Control) Status() (api.Status, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.status, c.statusErr
}

// Session waits for a session, a little while, and returns the best.
func (c *Control) Session(ctx context.Context) (*tunnel.Session, identity.Subject, error) {
	ready, err := c.await(ctx)
	if err != nil {
		return nil, identity.Subject{}, err
	}
	return ready[0].session, ready[0].hub, nil
}

const (
	sessionGap  = 5 * time.Second        // so long after its loss a control session is waited for: most come back by then
	sessionLull = 500 * time.Millisecond // later, who asks should soon hear that the hub is away
)

// sessionWait is how long a request waits for a control session that was lost at some time.
func sessionWait(lost, now time.Time) time.Duration {
	return min(max(sessionGap-now.Sub(lost), sessionLull), sessionGap)
}

func orUnknown(err error) error {
	if err == nil {
		return errors.New("still connecting")
	}
	return err
}

// Call sends a request to a hub. One that only asks is sent to the next hub where one does not
// answer. A hub's refusal becomes an *answer.Error.
func (c *Control) Call(ctx context.Context, method, path string, query url.Values, in, out any) error {
	ready, err := c.await(ctx)
	if err != nil {
		return err
	}
	if method != http.MethodGet {
		ready = ready[:1]
	}
	for _, l := range ready {
		if err = c.call(ctx, l, method, path, query, in, out); err == nil || !elsewhere(ctx, err) {
			break
		}
	}
	return answer.Lost(err)
}

// CallOther asks a hub that is not the one which Call asks first: where hubs are cut off from each
// other, each knows of its own agents alone.
func (c *Control) CallOther(ctx context.Context, path string, query url.Values, out any) error {
	ready, err := c.await(ctx)
	if err != nil {
		return err
	}
	if len(ready) < 2 {
		return errNoOther
	}
	return answer.Lost(c.call(ctx, ready[1], http.MethodGet, path, query, nil, out))
}

var errNoOther = errors.New("there is no session with another hub")

func (c *Control) call(ctx context.Context, l *link, method, path string, query url.Values, in, out any) error {
	if method == http.MethodGet {
		watched, stop := c.watch(ctx, l)
		defer stop()
		ctx = watched
	}
	return l.session.Call(ctx, method, path, query, in, out)
}
