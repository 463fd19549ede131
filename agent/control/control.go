// Package control is the session of a membership with a hub, and what goes through it: the record
// of this endpoint, events, and paths to peers.
//
//  1. dial       the hub addresses of the permit in turn, the last good one first
//  2. register   PUT our signed record; the hub refuses a name that is taken
//  3. events     the stream stays open: dial-backs (dialback.go), and what Config.Event handles
//  4. again      at once, then with jitter: up to 4 s where the hub refuses connections (it restarts), up to 30 s where nothing answers
//
// A path to a peer is a relay connection of its own (path.go), the next of which may stand by
// (standby.go).
package control

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"ztm/agent/api"
	"ztm/agent/limits"
	"ztm/tunnel"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	"ztm/tunnel/inflight"
	"ztm/tunnel/limit"
)

// Config is what a Control needs of the membership that it belongs to. All of it is set, but for a
// Control that only dials and registers: that one needs the first seven.
type Config struct {
	Mesh        string // its name here, for messages
	Self        identity.ID
	Dialer      *tunnel.Dialer
	Verifier    *identity.Verifier
	Certificate func() tls.Certificate
	Hubs        func() []string // addresses

	// Record signs the record of this endpoint, as of a time in Unix milliseconds.
	Record func(ms int64, offers []string) ([]byte, error)

	Log     *slog.Logger
	PeerLog *limit.Log // of what peers can cause
	Limits  limits.Table
	Work    *inflight.Tracker // what the membership waits for at its end
	Life    context.Context   // of the membership

	// Event handles an event that is no dial-back. It must not block.
	Event func(s *tunnel.Session, hub identity.Subject, e tunnel.Event)

	// Follow works beside a session until ctx ends.
	Follow func(ctx context.Context, s *tunnel.Session)

	// Accept serves what a peer seals in a path. It returns when the handshake is done, which ctx
	// governs.
	Accept func(ctx context.Context, path net.Conn, from identity.ID)
}

// Control is made with [New]. Its methods may be called from any goroutine.
type Control struct {
	Config
	standby   standby
	refused   chan string   // tickets of dial-backs that are not answered, capacity limits.Refusals
	changed   chan struct{} // the record must be published again, capacity 1
	fallbacks atomic.Int64  // paths that are streams of the session

	dialBacks   *limit.Share[string] // at work, by user, as the hub has it
	dialBacksOf limit.Counts[identity.ID]

	mu            sync.Mutex
	session       *tunnel.Session     // nil while there is none; guarded by mu
	hub           identity.Subject    // of session; guarded by mu
	lost          time.Time           // when the session was lost, or the Control was made; guarded by mu
	lastGood      string              // the address of the last hub that was reached; guarded by mu
	unreached     []string            // addresses at which the last attempt failed; guarded by mu
	status        api.Status          // guarded by mu
	statusErr     error               // guarded by mu
	statusChanged chan struct{}       // closed and replaced at each change; guarded by mu
	offersOf      map[string][]string // per app; guarded by mu
	offers        []string            // all of them, "APP/NAME", sorted; replaced, never changed; guarded by mu
	offered       int                 // how often offers changed; guarded by mu
	inDirectory   int                 // offered, as of the last record that the hub took; guarded by mu
	recordTime    int64               // Unix ms of the last record; guarded by mu
}

// New makes a Control, which has no session yet.
func New(c Config) *Control {
	return &Control{
		Config: c, refused: make(chan string, limits.Refusals), changed: make(chan struct{}, 1),
		dialBacks: limit.NewShare[string](max(c.Limits.DialBacks, 1)), status: api.Connecting, lost: time.Now(),
		statusChanged: make(chan struct{}), offersOf: map[string][]string{},
	}
}

const (
	firstDelay   = 500 * time.Millisecond // ten thousand agents must not come back in the same instant
	RefusedDelay = 4 * time.Second        // a restarted hub has everyone back within 5 s
	maxDelay     = 30 * time.Second
)

// Run keeps a session with a hub until Life ends.
func (c *Control) Run() {
	delay := time.Duration(0)
	for c.Life.Err() == nil {
		ready, err := c.connect(c.Life)
		c.setStatus(api.Failed, err)
		if c.Life.Err() != nil {
			return
		}
		delay = nextDelay(delay, ready, err)
		wait := rand.N(delay) + time.Millisecond // full jitter
		c.Log.Warn("no connection to the mesh", "err", err, "retry", wait.Round(time.Millisecond))
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-c.Life.Done():
			timer.Stop()
		}
	}
}

// nextDelay is the upper end of the next wait.
func nextDelay(last time.Duration, wasReady bool, err error) time.Duration {
	if wasReady || last == 0 {
		return firstDelay
	}
	limit := maxDelay
	if errors.Is(err, syscall.ECONNREFUSED) {
		limit = RefusedDelay
	}
	return min(last*2, limit)
}

// connect runs one control session to its end. It reports whether the session ever was ready.
func (c *Control) connect(ctx context.Context) (ready bool, err error) {
	c.setStatus(api.Connecting, nil)
	s, hub, err := c.Dial(ctx)
	if err != nil {
		return false, err
	}
	defer s.Close()
	defer context.AfterFunc(ctx, func() { s.Close() })()
	if err := c.Register(ctx, s); err != nil {
		return false, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var working sync.WaitGroup // ends with ctx
	working.Go(func() { c.publishChanges(ctx, s) })
	working.Go(func() { c.tellRefused(ctx, s) })
	working.Go(func() { c.Follow(ctx, s) })
	err = s.Events(ctx, func(e tunnel.Event) {
		if e.Type == tunnel.EventReady {
			ready = true
			c.setSession(s, hub)
			return
		}
		c.event(s, hub, e)
	})
	c.setSession(nil, identity.Subject{})
	c.standby.drop()
	cancel()
	working.Wait()
	return ready, err
}

// event handles one message of the hub. It must not block.
func (c *Control) event(s *tunnel.Session, hub identity.Subject, e tunnel.Event) {
	if e.Type == tunnel.EventDialBack {
		c.dialBack(s, hub, e)
		return
	}
	c.Event(s, hub, e)
}

// setSession notes a control session that is ready, or its loss.
func (c *Control) setSession(s *tunnel.Session, hub identity.Subject) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s == nil && c.session != nil {
		c.lost = time.Now()
	}
	c.session, c.hub = s, hub
	if s != nil {
		c.lastGood = s.Address()
		c.setStatusLocked(api.Connected, nil)
		c.Log.Info("connected", "hub", s.Address())
	}
}

func (c *Control) setStatus(s api.Status, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s == api.Connecting {
		err = c.statusErr // what went wrong last is worth knowing while we try again
	}
	c.setStatusLocked(s, err)
}

func (c *Control) setStatusLocked(s api.Status, err error) {
	c.status, c.statusErr = s, err
	close(c.statusChanged)
	c.statusChanged = make(chan struct{})
}

// Now returns the session, nil while there is none, and the hub it is with.
func (c *Control) Now() (*tunnel.Session, identity.Subject) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.session, c.hub
}

// Status returns how the session is, and what went wrong last.
func (c *Control) Status() (api.Status, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.status, c.statusErr
}

// Session waits for the control session, a little while: after a start or a lost hub it is about to
// come.
func (c *Control) Session(ctx context.Context) (*tunnel.Session, identity.Subject, error) {
	c.mu.Lock()
	timer := time.NewTimer(sessionWait(c.lost, time.Now()))
	c.mu.Unlock()
	defer timer.Stop()
	for {
		c.mu.Lock()
		s, hub, changed, err := c.session, c.hub, c.statusChanged, c.statusErr
		c.mu.Unlock()
		if s != nil {
			return s, hub, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, hub, context.Cause(ctx)
		case <-timer.C:
			return nil, hub, answer.Errorf(answer.Unavailable, "mesh %s is not connected: %v", c.Mesh, orUnknown(err))
		case <-c.Life.Done():
			return nil, hub, answer.Errorf(answer.Unavailable, "mesh %s was left", c.Mesh)
		}
	}
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

// Call sends a request on the control session. A hub's refusal becomes an *answer.Error.
func (c *Control) Call(ctx context.Context, method, path string, query url.Values, in, out any) error {
	s, _, err := c.Session(ctx)
	if err != nil {
		return err
	}
	return answer.Lost(s.Call(ctx, method, path, query, in, out))
}
