package control

import (
	"context"
	"net/http"
	"slices"
	"time"

	"ztm/tunnel"
	"ztm/tunnel/answer"
	"ztm/tunnel/unixtime"
)

// Register publishes the record at a hub: the first that answers, and does not say that it cannot now.
func (c *Control) Register(ctx context.Context) error {
	return c.Visit(ctx, func(s *tunnel.Session) error { return c.register(ctx, s) })
}

// Withdraw takes this endpoint out of the directory of a hub.
func (c *Control) Withdraw(ctx context.Context) error {
	return c.Visit(ctx, func(s *tunnel.Session) error {
		return s.Call(ctx, http.MethodDelete, tunnel.PathEndpoints+"/"+string(c.Self), nil, nil, nil)
	})
}

// register publishes the record. If the hub has one that is newer by its clock, ours was behind, or
// another hub was faster: go on from there.
func (c *Control) register(ctx context.Context, s *tunnel.Session) error {
	doc, err := c.record()
	if err != nil {
		return err
	}
	err = s.Call(ctx, http.MethodPut, tunnel.PathEndpoints+"/"+string(c.Self), nil, doc, nil)
	if answer.CodeOf(err) != answer.Conflict {
		return err
	}
	var e tunnel.Entry
	if s.Call(ctx, http.MethodGet, tunnel.PathEndpoints+"/"+string(c.Self), nil, nil, &e) != nil {
		return err
	}
	old, _, verr := c.Verifier.Record(e.Record)
	if verr != nil || old.ID != c.Self || !c.raiseRecordTime(old.Time) {
		return err
	}
	if doc, err = c.record(); err != nil {
		return err
	}
	return s.Call(ctx, http.MethodPut, tunnel.PathEndpoints+"/"+string(c.Self), nil, doc, nil)
}

// publish registers, at first and whenever labels or offers changed.
func (l *link) publish(ctx context.Context) error {
	c := l.c
	c.mu.Lock()
	offered := c.offered
	c.mu.Unlock()
	err := c.register(ctx, l.session)
	c.mu.Lock()
	defer c.mu.Unlock()
	l.inDirectory = offered // or refused: nothing is gained by waiting longer
	c.setStatusLocked(c.status, c.statusErr)
	return err
}

// record makes this endpoint's signed record as of now.
func (c *Control) record() ([]byte, error) {
	c.mu.Lock()
	c.recordTime = max(unixtime.MillisOf(c.Verifier.Clock().Now()), c.recordTime+1)
	at, offers := c.recordTime, c.offers
	c.mu.Unlock()
	return c.Record(at, offers)
}

// raiseRecordTime goes on from a newer record; false if it is not newer.
func (c *Control) raiseRecordTime(at unixtime.Millis) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if at < c.recordTime {
		return false
	}
	c.recordTime = at
	return true
}

// Publish has the record published again soon, at each hub.
func (c *Control) Publish() {
	c.mu.Lock()
	for _, l := range c.links {
		select {
		case l.changed <- struct{}{}:
		default: // it will be already
		}
	}
	c.mu.Unlock()
}

// publishTimeout is how long a change of offers waits for the hub.
const publishTimeout = 2 * time.Second

// publishAgain is how long a record waits that a hub refused, at first. A hub takes one change a second
// where there are many.
const publishAgain = 2 * time.Second

// published waits until each hub has a record as new as this moment, but for those that hang: who was
// told that a tunnel is open must be able to use it.
func (c *Control) published() {
	timer := time.NewTimer(publishTimeout)
	defer timer.Stop()
	c.mu.Lock()
	want := c.offered
	for slices.ContainsFunc(c.readyLocked(), func(l *link) bool { return l.inDirectory < want && !l.suspicion.Suspect() }) {
		changed := c.statusChanged
		c.mu.Unlock()
		select {
		case <-changed:
		case <-timer.C:
			return
		case <-c.Life.Done():
			return
		}
		c.mu.Lock()
	}
	c.mu.Unlock()
}

// Offer publishes what an app offers, replacing what it offered before, and waits a little for the
// hub to take it.
func (c *Control) Offer(app string, names []string) {
	c.mu.Lock()
	same := slices.Equal(c.offersOf[app], names) || c.retracted
	if !same {
		c.offersOf[app] = slices.Clone(names)
		c.offers = nil
		for app, names := range c.offersOf {
			for _, n := range names {
				c.offers = append(c.offers, app+"/"+n)
			}
		}
		slices.Sort(c.offers)
		c.offered++
	}
	c.mu.Unlock()
	if !same {
		c.Publish()
		c.published()
	}
}

// Retract takes back what all apps offer, for good, and waits a little for the hub to know.
func (c *Control) Retract() {
	c.mu.Lock()
	c.retracted, c.offers = true, nil
	c.offered++
	c.mu.Unlock()
	c.Publish()
	c.published()
}

// Offers returns what all apps offer, "APP/NAME", sorted. The caller must not change it.
func (c *Control) Offers() []string {
	c.mu.Lock()
	offers := c.offers
	c.mu.Unlock()
	return offers
}
