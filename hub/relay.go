package hub

import (
	"context"
	"crypto/rand"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"ztm/hub/limits"
	"ztm/tunnel"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	"ztm/tunnel/inflight"
	"ztm/tunnel/limit"
	"ztm/tunnel/splice"
)

// How agent A gets a relayed path to agent B:
//
//  1. A's leg arrives (leg.go): a header block with CONNECT and the ID of B.
//  2. connect: a ticket, good for B alone and for one use, goes to B in a dial-back event.
//  3. answer: B's leg arrives with the ticket and is handed to the goroutine of A's.
//  4. join: both legs get status 200, B's first, because A speaks first and B must be there by
//     then.
//  5. TLS has ended on both legs; splice.Join moves what follows from socket to socket, inside the
//     kernel.
//
// A leg may be a stream of a control session instead of a connection; then step 5 copies. Either
// way the bytes are those of a TLS session that ends in A and in B.
type relay struct {
	limits   Limits
	sessions *sessions
	metrics  *metrics
	log      *slog.Logger
	timeout  time.Duration // how long a ticket is good

	undecided undecided                 // legs without a header block yet
	standby   limit.Counts[struct{}]    // those of them that are standby connections
	all       limit.Counts[struct{}]    // paths, from the ticket to the end
	byUser    limit.Counts[string]      // the same by the user who opened them
	pendingBy limit.Counts[identity.ID] // paths that are being set up, by the endpoint that opens them
	pendingAt pending                   // the same by the endpoint they are for

	running inflight.Tracker // connect
	closing chan struct{}    // closed by drain

	mu      sync.Mutex
	waiting map[string]*waiter // by ticket
}

// ticketLife is how long a ticket is good. It is shorter than the opener waits, so that the opener
// learns why there is no path.
const ticketLife = tunnel.RelayTimeout - 3*time.Second

// waiter is a path that waits for its second leg.
type waiter struct {
	target identity.ID
	second chan *leg // capacity 1: gets the leg, or nil for a "no", when the ticket leaves the table; never closed
}

// pending counts the paths that wait for an endpoint. One user gets half of the places at most,
// however many endpoints they have, and a quarter is kept for users who have few. So no user can
// keep the others out.
type pending struct {
	all    limit.Counts[identity.ID]
	byUser limit.Counts[userAt]
}

// userAt is a user who waits for an endpoint.
type userAt struct {
	user   string
	target identity.ID
}

// acquire adds one of a user for a target if there is a place, of most in all, and reports whether
// there was.
func (p *pending) acquire(user string, target identity.ID, most int) bool {
	key := userAt{user, target}
	few := p.byUser.Acquire(key, max(most/16, 1))
	if !few && !p.byUser.Acquire(key, most/2) {
		return false
	}
	if few && p.all.Acquire(target, most) || !few && p.all.Acquire(target, most-most/4) {
		return true
	}
	p.byUser.Release(key)
	return false
}

func (p *pending) release(user string, target identity.ID) {
	p.byUser.Release(userAt{user, target})
	p.all.Release(target)
}

func newRelay(limits Limits, timeout time.Duration, ss *sessions, m *metrics, log *slog.Logger) *relay {
	return &relay{
		limits: limits, sessions: ss, metrics: m, log: log, timeout: timeout,
		waiting: map[string]*waiter{}, closing: make(chan struct{}),
	}
}

// serve takes a leg, the first or second of a path, and finishes it. A second leg may be finished
// after serve has returned.
func (r *relay) serve(ctx context.Context, l *leg, h tunnel.Header) {
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
		r.metrics.paths.refused(err)
		l.refuse(answer.Public(err))
	}
	l.finish()
}

// connect finds the second leg for a first one and joins the two. An error means that the first leg
// was not answered.
func (r *relay) connect(ctx context.Context, a *leg, target identity.ID) error {
	if !r.running.Enter() {
		return errShutdown
	}
	defer r.running.Leave()
	release, err := r.admit(a.peer)
	if err != nil {
		return err
	}
	defer release()
	b, err := r.rendezvous(ctx, a, target)
	if err != nil {
		return err
	}
	defer b.finish()
	return r.join(ctx, a, b)
}

// admit applies the limits on paths.
func (r *relay) admit(p *peer) (release func(), err error) {
	if !r.all.Acquire(struct{}{}, r.limits.Paths) {
		return nil, limited("the hub relays %d connections, which is its limit", r.limits.Paths)
	}
	if !r.byUser.Acquire(p.User, r.limits.PathsPerUser) {
		r.all.Release(struct{}{})
		return nil, limited("user %s has %d connections through the hub, which is the limit", p.User, r.limits.PathsPerUser)
	}
	return func() {
		r.byUser.Release(p.User)
		r.all.Release(struct{}{})
	}, nil
}

// rendezvous asks the target to dial back and waits for its leg.
func (r *relay) rendezvous(ctx context.Context, a *leg, target identity.ID) (*leg, error) {
	if !r.pendingBy.Acquire(a.peer.ID, r.limits.Pending) {
		return nil, limited("endpoint %s waits for %d connections already", a.peer.ID, r.limits.Pending)
	}
	defer r.pendingBy.Release(a.peer.ID)
	if !r.pendingAt.acquire(a.peer.User, target, r.limits.PendingAt) {
		return nil, limited("too many connections of user %s already wait for endpoint %s", a.peer.User, target)
	}
	defer r.pendingAt.release(a.peer.User, target)

	name, session, err := r.sessions.find(target)
	if err != nil {
		return nil, err
	}
	w, ticket := r.issue(target)
	e := &tunnel.Event{Type: tunnel.EventDialBack, Ticket: ticket, Peer: a.peer.ID, User: a.peer.User}
	if !session.offer(limits.DialBackQueue, e) {
		r.withdraw(ticket)
		r.metrics.events.dropped.Add(1)
		return nil, answer.Errorf(answer.Unavailable, "endpoint %s is busy", name)
	}
	return r.wait(ctx, a, w, ticket, name, session)
}

// issue makes a ticket for a target.
func (r *relay) issue(target identity.ID) (w *waiter, ticket string) {
	w = &waiter{target: target, second: make(chan *leg, 1)}
	ticket = rand.Text() // at least 128 bits
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiting[ticket] = w
	return w, ticket
}

// wait waits for the second leg of a, from the session of a target.
func (r *relay) wait(
	ctx context.Context, a *leg, w *waiter, ticket, name string, session *session,
) (_ *leg, err error) {
	timer := time.NewTimer(r.timeout)
	defer timer.Stop()
	select {
	case b := <-w.second:
		return came(b, name)
	case <-timer.C:
		err = answer.Errorf(answer.Timeout, "endpoint %s does not answer", name)
	case <-session.ended:
		err = answer.Errorf(answer.Unavailable, "endpoint %s went offline", name)
	case <-r.closing:
		err = errShutdown
	case <-a.gone:
		err = errGone
	case <-ctx.Done():
		err = errShutdown
	}
	if r.withdraw(ticket) {
		return nil, err
	}
	return came(<-w.second, name) // it was settled at the same moment
}

// came turns what the target sent, a leg or nil for a "no", into a result.
func came(b *leg, name string) (*leg, error) {
	if b == nil {
		return nil, limited("endpoint %s accepts no more connections at the moment", name)
	}
	return b, nil
}

// withdraw voids a ticket, and reports whether it was good until now.
func (r *relay) withdraw(ticket string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, ok := r.waiting[ticket]
	delete(r.waiting, ticket)
	return ok
}

// answer hands a second leg to the path whose ticket it shows. A ticket is good only for the
// endpoint that it was sent to, and stays good when another one shows it.
func (r *relay) answer(l *leg, id identity.ID, ticket string) error {
	if id != l.peer.ID {
		return answer.Errorf(answer.Denied, "endpoint %s cannot answer for endpoint %s", l.peer.ID, id)
	}
	return r.settle(l.peer.ID, ticket, l)
}

// settle ends the wait of the path whose ticket an endpoint shows: with a leg, or with nil if it
// will not answer.
func (r *relay) settle(by identity.ID, ticket string, l *leg) error {
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

// deleteTicket is DELETE /v1/tickets/TICKET: an endpoint will not answer a dial-back.
func (s *server) deleteTicket(w http.ResponseWriter, _ *http.Request, p *peer, arg string) error {
	if err := s.relay.settle(p.ID, arg, nil); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// join answers both legs and moves bytes between them until both directions have ended.
func (r *relay) join(ctx context.Context, a, b *leg) error {
	second, err := b.accept()
	if err != nil {
		return answer.Errorf(answer.Broken, "endpoint %s went away", r.sessions.name(b.peer.ID))
	}
	first, err := a.accept()
	if err != nil {
		return errGone
	}
	r.metrics.paths.started.Add(1)
	r.metrics.paths.open.Add(1)
	defer r.metrics.paths.open.Add(-1)
	there, back, err := splice.Join(ctx, first, second)
	r.metrics.paths.bytes.Add(there + back)
	r.log.Debug("relayed path has ended", "from", a.peer.ID, "to", b.peer.ID, "there", there, "back", back, "err", err)
	return nil
}

// drain refuses new paths, ends those that are being set up, and waits up to d for the others to
// end. It is called once.
func (r *relay) drain(d time.Duration) {
	ended := r.running.Close()
	close(r.closing)
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ended:
	case <-t.C:
	}
}
