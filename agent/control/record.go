package control

import (
	"context"
	"net/http"
	"slices"
	"time"

	"ztm/tunnel"
	"ztm/tunnel/answer"
)

// Register publishes the record. If the hub has one that is newer by its clock, ours was behind: go
// on from there.
func (c *Control) Register(ctx context.Context, s *tunnel.Session) error {
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

// publishChanges registers again whenever labels or offers changed.
func (c *Control) publishChanges(ctx context.Context, s *tunnel.Session) {
	for {
		select {
		case <-c.changed:
			c.mu.Lock()
			offered := c.offered
			c.mu.Unlock()
			if err := c.Register(ctx, s); err != nil && ctx.Err() == nil {
				c.Log.Warn("the hub refused the record of this endpoint", "err", err)
			}
			c.mu.Lock()
			c.inDirectory = offered // or refused: nothing is gained by waiting longer
			c.setStatusLocked(c.status, c.statusErr)
			c.mu.Unlock()
		case <-ctx.Done():
			return
		}
	}
}

// record makes this endpoint's signed record as of now.
func (c *Control) record() ([]byte, error) {
	c.mu.Lock()
	c.recordTime = max(c.Verifier.Clock().Now().UnixMilli(), c.recordTime+1)
	at, offers := c.recordTime, c.offers
	c.mu.Unlock()
	return c.Record(at, offers)
}

// raiseRecordTime goes on from a newer record; false if it is not newer.
func (c *Control) raiseRecordTime(ms int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if ms < c.recordTime {
		return false
	}
	c.recordTime = ms
	return true
}

// Publish has the record published again soon.
func (c *Control) Publish() {
	select {
	case c.changed <- struct{}{}:
	default: // it will be already
	}
}

// publishPatience is how long a change of offers waits for the hub.
const publishPatience = 2 * time.Second

// published waits until the directory has a record as new as this moment, if there is a hub to have
// it: who was told that a tunnel is open must be able to use it.
func (c *Control) published() {
	timer := time.NewTimer(publishPatience)
	defer timer.Stop()
	c.mu.Lock()
	want := c.offered
	for c.session != nil && c.inDirectory < want {
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
	same := slices.Equal(c.offersOf[app], names)
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

// Offers returns what all apps offer, "APP/NAME", sorted. The caller must not change it.
func (c *Control) Offers() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.offers
}
