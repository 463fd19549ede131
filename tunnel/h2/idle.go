package h2

import (
	"net/http"
	"time"
)

// Heard returns when a frame of the peer came last.
func (c *Conn) Heard() time.Time {
	c.mu.Lock()
	heard := c.heard
	c.mu.Unlock()
	return heard
}

// SetIdle replaces [Options.Idle]. A PING that is on its way is not called back.
func (c *Conn) SetIdle(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.o.Idle == d || c.err != nil || c.timer == nil {
		c.o.Idle = d
		return
	}
	c.o.Idle = d
	if c.timer.Stop() { // otherwise check runs, or will
		c.timer.Reset(c.untilCheckLocked())
	}
}

// SetIdle is [Conn.SetIdle] of the connection that a request came on.
func SetIdle(r *http.Request, d time.Duration) { StreamOf(r).conn.SetIdle(d) }
