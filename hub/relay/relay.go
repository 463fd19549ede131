// Package relay joins two legs to a path.
//
//	relay.go    tickets, and the way from one leg to a path
//	hop.go      paths whose ends are on two hubs
//	pending.go  who may wait for whom
//
// It knows connections and who asked for them, and carries what it cannot read.
package relay

import (
	"context"
	"crypto/rand"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"ztm/hub/limits"
	"ztm/hub/link"
	"ztm/tunnel"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	"ztm/tunnel/inflight"
	"ztm/tunnel/limit"
	"ztm/tunnel/splice"
	"ztm/tunnel/suspicion"
)

// How agent A gets a relayed path to agent B:
//
//  1. A's leg arrives: a header block with CONNECT and the ID of B.
//  2. connect: a ticket, good for B alone and for one use, goes to B in a dial-back event.
//  3. answer: B's leg arrives with the ticket and is handed to the goroutine of A's.
//  4. join: both legs get status 200, B's first, because A speaks first and B must be there by
//     then.
//  5. TLS has ended on both legs; splice.Join moves what follows from socket to socket, inside the
//     kernel.
//
// A leg may be a stream of a control session instead of a connection; then step 5 copies. Either
// way the bytes are those of a TLS session that ends in A and in B.
//
// Make a Relay with [New]. All methods are safe for concurrent use.
type Relay struct {
	c       Config
	metrics Metrics

	all       limit.Counts[struct{}]    // paths, from the ticket to the end
	byUser    limit.Counts[string]      // the same by the user who opened them
	pendingBy limit.Counts[identity.ID] // paths that are being set up, by the endpoint that opens them
	pendingAt pending                   // the same by the endpoint they are for

	hopsOf limit.Counts[identity.ID] // paths that come from other hubs, by hub

	running inflight.Tracker   // connect
	open    context.Context    // until Drain
	close   context.CancelFunc // ends open

	mu      sync.Mutex
	waiting map[string]*waiter // by ticket
}

// TicketLife is how long a ticket is good. It is shorter than the opener waits, so that the opener
// learns why there is no path.
const TicketLife = tunnel.RelayTimeout - 3*time.Second

// lateTime is after how long a target that has not dialled back is asked for a sign of life. One that
// is slow gives it, and has the life of the ticket; of one that sleeps nothing is heard for
// [suspicion.MaxSilence], and then the opener need not wait any longer.
const lateTime = time.Second

// waiter is a path that waits for its second leg.
type waiter struct {
	target identity.ID
	second chan *Leg // capacity 1: gets the leg, or nil for a "no", when the ticket leaves the table; never closed
}

// Config is what a relay is made with. All fields are set.
type Config struct {
	Limits   limits.Limits
	Ticket   time.Duration // how long a ticket is good
	Pace     *Pace
	Sessions Sessions
	Links    *link.Links
	Log      *slog.Logger
}

// Sessions are the agents that are attached to this hub.
type Sessions interface {
	// Find returns the name and the session of an endpoint. Where it is offline, there is a name
	// and an error; where there is no such endpoint, an error alone.
	Find(id identity.ID) (name string, s Session, err error)
	// Name returns the name of an endpoint, or its ID if it has none.
	Name(id identity.ID) string
}

// Session is the events stream of an agent.
type Session interface {
	// Offer queues an event unless most wait already, and reports whether it did.
	Offer(most int, e *tunnel.Event) bool
	// Ended is closed when the stream is.
	Ended() <-chan struct{}
	// Ping returns nil once the agent has answered on the connection of the stream.
	Ping(ctx context.Context) error
}

// Leg is one end of a path: a connection that waits for the hub's answer. It is answered once, by
// Accept or Refuse, and finished once.
type Leg struct {
	ID     identity.ID                       // the agent at its end
	User   string                            // of the agent; empty for a second leg
	Hop    bool                              // another hub is between; it says who the agent is
	Hub    identity.ID                       // that hub; set by Hop
	At     netip.Addr                        // where the hub sees the agent; zero: it does not, or there is no connection of its own
	Accept func(near bool) (net.Conn, error) // answers 200, and whether both ends are seen at one address; from then on the path owns the connection
	Refuse func(*answer.Error)               // answers "no"
	Finish func()                            // closes the leg; safe to call in any state
	Gone   <-chan struct{}                   // closed when the agent has gone; nil where that cannot be seen
}

// root reports whether the agent is one of user root, which has more room than others.
func (l *Leg) root() bool { return l.User == identity.RootUser }

// Metrics count paths.
type Metrics struct {
	Open, Started, Bytes                      atomic.Int64
	Limited, Offline, Unknown, Timeout, Other atomic.Int64 // those that did not come about, by the reason
	Dropped                                   atomic.Int64 // dial-backs without room
}

// Refused counts a path that was refused or failed, by the reason.
func (m *Metrics) Refused(err error) {
	switch answer.CodeOf(err) {
	case answer.Limit:
		m.Limited.Add(1)
	case answer.Unavailable:
		m.Offline.Add(1)
	case answer.NotFound:
		m.Unknown.Add(1)
	case answer.Timeout:
		m.Timeout.Add(1)
	default:
		m.Other.Add(1)
	}
}

// New makes a relay.
func New(c Config) *Relay {
	r := &Relay{c: c, waiting: map[string]*waiter{}}
	r.open, r.close = context.WithCancel(context.Background())
	return r
}

// Metrics returns the counters.
func (r *Relay) Metrics() *Metrics { return &r.metrics }

// Serve takes a leg, the first or second of a path, and finishes it. A second leg may be finished
// after Serve has returned.
func (r *Relay) Serve(ctx context.Context, l *Leg, h tunnel.Header) {
	id, err := identity.ParseID(h[tunnel.FieldAuthority])
	ticket, second := h[tunnel.FieldTicket]
	switch {
	case h[tunnel.FieldMethod] != "CONNECT":
		err = answer.Errorf(answer.BadRequest, "a relayed path is requested with CONNECT")
	case err != nil:
		err = answer.Errorf(answer.BadRequest, "relayed path: %v", err)
	case second:
		err = r.answer(l, id, ticket)
		if err == nil {
			return // the goroutine of the first leg owns it now
		}
	default:
		err = r.connect(ctx, l, id)
	}
	if err != nil {
		r.metrics.Refused(err)
		l.Refuse(answer.Public(err))
	}
	l.Finish()
}

// connect finds the second leg for a first one and joins the two. An error means that the first leg
// was not answered.
func (r *Relay) connect(ctx context.Context, a *Leg, target identity.ID) error {
	if !r.running.Enter() {
		return errShutdown
	}
	defer r.running.Leave()
	release, err := r.admit(a.User)
	if err != nil {
		return err
	}
	defer release()
	most := r.c.Limits.Pending
	if a.root() {
		most *= limits.RootPending
	}
	if !r.pendingBy.Acquire(a.ID, most) {
		return answer.Errorf(answer.Limit, "endpoint %s waits for %d connections already", a.ID, most)
	}
	settled := sync.OnceFunc(func() { r.pendingBy.Release(a.ID) })
	defer settled()
	if err := r.pace(ctx, a); err != nil {
		return err
	}
	b, err := r.rendezvous(ctx, a, target)
	if err != nil {
		return err
	}
	defer b.Finish()
	settled()
	return r.join(ctx, a, b)
}

// admit applies the limits on paths.
func (r *Relay) admit(user string) (release func(), err error) {
	if !r.all.Acquire(struct{}{}, r.c.Limits.Paths) {
		return nil, answer.Errorf(answer.Limit, "the hub relays %d connections, which is its limit", r.c.Limits.Paths)
	}
	if !r.byUser.Acquire(user, r.c.Limits.PathsPerUser) {
		r.all.Release(struct{}{})
		return nil, answer.Errorf(answer.Limit, "user %s has %d connections through the hub, which is the limit", user, r.c.Limits.PathsPerUser)
	}
	return func() {
		r.byUser.Release(user)
		r.all.Release(struct{}{})
	}, nil
}

// rendezvous asks the target to dial back and waits for its leg.
func (r *Relay) rendezvous(ctx context.Context, a *Leg, target identity.ID) (*Leg, error) {
	if !r.pendingAt.acquire(a.User, target, r.c.Limits.PendingAt) {
		return nil, answer.Errorf(answer.Limit, "too many connections of user %s already wait for endpoint %s", a.User, target)
	}
	defer r.pendingAt.release(a.User, target)

	name, session, err := r.c.Sessions.Find(target)
	if err != nil {
		return r.elsewhere(ctx, a, target, err)
	}
	w, ticket := r.issue(target)
	e := &tunnel.Event{Type: tunnel.EventDialBack, Ticket: ticket, Peer: a.ID, User: a.User}
	if !session.Offer(limits.DialBackQueue, e) {
		r.withdraw(ticket)
		r.metrics.Dropped.Add(1)
		return nil, answer.Errorf(answer.Unavailable, "endpoint %s is busy", name)
	}
	return r.wait(ctx, a, w, ticket, name, session)
}

// issue makes a ticket for a target.
func (r *Relay) issue(target identity.ID) (w *waiter, ticket string) {
	w = &waiter{target: target, second: make(chan *Leg, 1)}
	ticket = rand.Text() // at least 128 bits
	r.mu.Lock()
	r.waiting[ticket] = w
	r.mu.Unlock()
	return w, ticket
}

// wait waits for the second leg of a, from the session of a target.
func (r *Relay) wait(
	ctx context.Context, a *Leg, w *waiter, ticket, name string, session Session,
) (_ *Leg, err error) {
	timer := time.NewTimer(r.c.Ticket)
	defer timer.Stop()
	silent, stop := silence(session)
	defer stop()
	select {
	case b := <-w.second:
		return came(b, name)
	case <-silent:
		err = answer.Errorf(answer.Timeout, "endpoint %s does not answer", name)
	case <-timer.C:
		err = answer.Errorf(answer.Timeout, "endpoint %s does not answer", name)
	case <-session.Ended():
		err = answer.Errorf(answer.Unavailable, "endpoint %s went offline", name)
	case <-r.open.Done():
		err = errShutdown
	case <-a.Gone:
		err = errGone
	case <-ctx.Done():
		err = errShutdown
	}
	if r.withdraw(ticket) {
		return nil, err
	}
	return came(<-w.second, name) // it was settled at the same moment
}

// silence looks whether a target that is late is there at all. The channel is closed if it is not,
// unless stop was called.
func silence(session Session) (silent <-chan struct{}, stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	none := make(chan struct{})
	late := time.AfterFunc(lateTime, func() { // ends with ctx
		ctx, cancel := context.WithTimeout(ctx, suspicion.MaxSilence)
		defer cancel()
		if session.Ping(ctx) != nil && context.Cause(ctx) == context.DeadlineExceeded {
			close(none)
		}
	})
	return none, func() {
		late.Stop()
		cancel()
	}
}

// came turns what the target sent, a leg or nil for a "no", into a result.
func came(b *Leg, name string) (*Leg, error) {
	if b == nil {
		return nil, answer.Errorf(answer.Limit, "endpoint %s accepts no more connections at the moment", name)
	}
	return b, nil
}

// withdraw voids a ticket, and reports whether it was good until now.
func (r *Relay) withdraw(ticket string) bool {
	r.mu.Lock()
	_, ok := r.waiting[ticket]
	delete(r.waiting, ticket)
	r.mu.Unlock()
	return ok
}

// answer hands a second leg to the path whose ticket it shows. A ticket is good only for the
// endpoint that it was sent to, and stays good when another one shows it.
func (r *Relay) answer(l *Leg, id identity.ID, ticket string) error {
	if id != l.ID {
		return answer.Errorf(answer.Denied, "endpoint %s cannot answer for endpoint %s", l.ID, id)
	}
	return r.Settle(l.ID, ticket, l)
}

// Settle ends the wait of the path whose ticket an endpoint shows: with a leg, or with nil if it
// will not answer.
func (r *Relay) Settle(by identity.ID, ticket string, l *Leg) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	w := r.waiting[ticket]
	if w == nil || w.target != by {
		return answer.Errorf(answer.NotFound, "the ticket is unknown or has expired")
	}
	delete(r.waiting, ticket)
	w.second <- l
	return nil
}

// join answers both legs and moves bytes between them until both directions have ended.
func (r *Relay) join(ctx context.Context, a, b *Leg) error {
	near := a.At.IsValid() && a.At == b.At
	second, err := b.Accept(near)
	if err != nil {
		return answer.Errorf(answer.Broken, "endpoint %s went away", r.c.Sessions.Name(b.ID))
	}
	first, err := a.Accept(near)
	if err != nil {
		return errGone
	}
	r.metrics.Started.Add(1)
	r.metrics.Open.Add(1)
	defer r.metrics.Open.Add(-1)
	there, back, err := splice.Join(ctx, first, second)
	r.metrics.Bytes.Add(there + back)
	r.c.Log.Debug("relayed path has ended", "from", a.ID, "to", b.ID, "there", there, "back", back, "err", err)
	return nil
}

// Drain refuses new paths and ends those that are being set up. The result is closed when the others
// have ended, too. It is called once.
func (r *Relay) Drain() (ended <-chan struct{}) {
	ended = r.running.Close()
	r.close()
	return ended
}

var (
	errShutdown = answer.Errorf(answer.Unavailable, "the hub is shutting down")
	errGone     = answer.Errorf(answer.Broken, "the other side went away")
)
