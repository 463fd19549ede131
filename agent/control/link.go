package control

import (
	"context"
	"encoding/base64"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"time"

	"ztm/agent/api"
	"ztm/agent/limits"
	"ztm/tunnel"
	"ztm/tunnel/identity"
	"ztm/tunnel/suspicion"
)

// link is the session with one hub, from the first attempt to dial on: a goroutine that reads events,
// one that serves, and one that follows trust lists.
type link struct {
	c       *Control
	began   time.Time
	stop    context.CancelCauseFunc // ends it
	life    context.Context         // ends with it
	standby standby
	changed chan struct{}     // the record must be published again, capacity 1
	refused chan string       // tickets of dial-backs that are not answered, capacity limits.Refusals
	newer   chan tunnel.Event // the hub's trust list that is to be looked at, capacity 1
	behind  chan struct{}     // our trust list has changed, capacity 1

	suspicion *suspicion.Suspicion // of session

	place       *place           // guarded by c.mu
	session     *tunnel.Session  // nil until it is dialled; guarded by c.mu
	hub         identity.Subject // of session; guarded by c.mu
	ready       bool             // the endpoint is online there; guarded by c.mu
	leave       time.Time        // when another one is to be looked for, as this hub is about to end; zero: never; guarded by c.mu
	rank        int              // of the last sort: less is better; guarded by c.mu
	inDirectory int              // offered, as of the last record that the hub took; guarded by c.mu
}

func newLink(c *Control, p *place, now time.Time) *link {
	l := &link{
		c: c, began: now, place: p, changed: make(chan struct{}, 1), refused: make(chan string, limits.Refusals),
		newer: make(chan tunnel.Event, 1), behind: make(chan struct{}, 1),
	}
	l.life, l.stop = context.WithCancelCause(c.Life)
	return l
}

// rtt is the round trip to the hub in the last minutes; 0 if it is unknown.
func (l *link) rtt() time.Duration {
	if l.session == nil {
		return 0
	}
	return l.session.Lately()
}

// end ends the session, or the attempt.
func (l *link) end(why error) { l.stop(why) }

// hold runs a session to its end, and says why it ended.
func (l *link) hold(life context.Context) error {
	defer l.stop(nil)
	err := l.run(l.life)
	if why := context.Cause(l.life); why != nil && life.Err() == nil {
		return why
	}
	return err
}

func (l *link) run(ctx context.Context) error {
	c := l.c
	c.mu.Lock()
	id, addresses := l.place.id(), l.place.addresses()
	c.mu.Unlock()
	s, hub, err := c.dialOne(ctx, id, addresses)
	if err != nil {
		return err
	}
	defer s.Close()
	defer context.AfterFunc(ctx, func() { s.Close() })()
	l.attend(s, hub)
	if err := c.claim(l); err != nil {
		return err
	}
	if err := l.publish(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var working sync.WaitGroup // ends with ctx
	working.Go(func() { l.serve(ctx) })
	working.Go(func() { l.followTrust(ctx) })
	defer working.Wait()
	defer cancel()
	return s.Events(ctx, l.event, l.greeting()...)
}

// attend notes the session that was dialled.
func (l *link) attend(s *tunnel.Session, hub identity.Subject) {
	l.c.mu.Lock()
	defer l.c.mu.Unlock()
	l.session, l.hub = s, hub
	l.suspicion = suspicion.New(suspicion.Config{Ping: s.Ping, Heard: s.Heard, RTT: s.RTT, Go: l.c.Work.Go, Lost: l.silent})
}

// greeting are the fields with which the events stream is opened.
func (l *link) greeting() []string {
	var fields []string
	if doc := l.c.Sign(l.hub.ID); doc != nil {
		fields = append(fields, tunnel.FieldAttach, base64.StdEncoding.EncodeToString(doc))
	}
	if l.c.isSpare(l) {
		fields = append(fields, tunnel.FieldIdle, strconv.Itoa(int(tunnel.SpareIdle/time.Second)))
	}
	return fields
}

// isSpare reports whether there is an older session than this one.
func (c *Control) isSpare(l *link) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.IndexFunc(c.links, func(other *link) bool { return other.hub.ID != "" })
	return i >= 0 && c.links[i] != l
}

// event handles one message of the hub. It does not block.
func (l *link) event(e tunnel.Event) {
	c := l.c
	switch e.Type {
	case tunnel.EventReady:
		c.isReady(l)
	case tunnel.EventDialBack:
		c.dialBack(l, e)
	case tunnel.EventTrust:
		select {
		case <-l.newer: // an older one that nobody has looked at
		default:
		}
		l.newer <- e // nobody else sends
	case tunnel.EventHubs:
		c.Work.GoUpTo(&c.fetches, limits.HubLists, func() { c.fetchHubs(l.session) })
	case tunnel.EventMove:
		c.move(l, time.Duration(e.Within)*time.Millisecond)
	default:
		c.Event(l.session, l.hub, e)
	}
}

// isReady notes that the endpoint is online at a hub.
func (c *Control) isReady(l *link) {
	c.mu.Lock()
	defer c.mu.Unlock()
	l.ready = true
	c.leadLocked()
	c.setStatusLocked(api.Connected, nil)
	c.Log.Info("connected", "hub", l.session.Address())
	c.Wake()
}

// leadLocked has the first session that stands ask its hub for signs of life as often as one hub
// needs it, and the others less often.
func (c *Control) leadLocked() {
	for i, l := range c.readyLocked() {
		idle := tunnel.SpareIdle
		if i == 0 {
			idle = tunnel.LeadIdle
		}
		l.session.SetIdle(idle)
	}
}

// serve does what does not wait for an event: it publishes changes of the record, and gives tickets
// back. A record that the hub did not take is published again: what is offered must not stay unknown
// because it changed often.
func (l *link) serve(ctx context.Context) {
	var again <-chan time.Time // when a record that was refused is published again; else nil
	delay := publishAgain
	for {
		select {
		case <-l.changed:
			if again != nil {
				continue // it is soon
			}
		case <-again:
		case ticket := <-l.refused:
			l.tellRefused(ctx, ticket)
			continue
		case <-ctx.Done():
			return
		}
		err := l.publish(ctx)
		if err == nil || ctx.Err() != nil {
			again, delay = nil, publishAgain
			continue
		}
		if delay == publishAgain {
			l.c.Log.Warn("the hub refused the record of this endpoint: it is published again", "err", err)
		}
		again, delay = time.After(delay/2+rand.N(delay)), min(2*delay, maxDelay)
	}
}

// passAfter is how long a trust list that came from elsewhere is left to the hubs to pass on, at
// most: they do it among themselves, and need not get it from every agent.
const passAfter = 10 * time.Second

// followTrust brings hub and agent to the same trust list whenever one of them has another.
func (l *link) followTrust(ctx context.Context) {
	var last tunnel.Event
	var pass <-chan time.Time // when ours, which has changed, is compared with that of the hub; else nil
	for {
		select {
		case last = <-l.newer:
		case <-l.behind:
			if last.Type != "" && pass == nil {
				pass = time.After(rand.N(passAfter))
			}
			continue
		case <-pass:
			pass = nil
		case <-ctx.Done():
			return
		}
		l.c.Trust(l.session, last)
	}
}

// TrustChanged has the hubs compared with the trust list that is in force now. It came from one of them,
// or from a peer, or was made here.
func (c *Control) TrustChanged() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, l := range c.readyLocked() {
		select {
		case l.behind <- struct{}{}:
		default: // it will be already
		}
	}
}
