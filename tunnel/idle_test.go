package tunnel

import (
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ztm/tunnel/h2"
	"ztm/tunnel/tuning"
)

// What a message costs on the wire beside its bytes: a TLS record (RFC 8446 section 5.2: header,
// type, tag), and IPv4 and TCP headers with timestamps, once more for the acknowledgement.
const (
	recordBytes  = 5 + 1 + 16
	segmentBytes = 20 + 32
)

// wire counts what a session costs on the wire.
type wire struct {
	mu    sync.Mutex
	bytes int       // guarded by mu
	last  time.Time // when something was sent; guarded by mu
}

func (w *wire) message(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	for quiet := now.Sub(w.last); quiet > KeepAlive().Idle; quiet -= KeepAlive().Idle {
		w.bytes += 2 * 2 * segmentBytes // either end asks, and the other one answers
	}
	w.bytes += n + recordBytes + 2*segmentBytes
	w.last = now
}

type countedConn struct {
	net.Conn
	wire *wire
}

func (c countedConn) Write(p []byte) (int, error) {
	c.wire.message(len(p))
	return c.Conn.Write(p)
}

// restingSession is a control session at rest, with so much silence before a PING.
func restingSession(idle time.Duration) (w *wire, end func()) {
	w = &wire{last: time.Now()}
	near, far := net.Pipe()
	agent := h2.Client(countedConn{near, w}, tuning.Control(50*time.Millisecond))
	hub := h2.ServerConn(countedConn{far, w}, tuning.Hub(50*time.Millisecond))
	agent.SetIdle(idle)
	hub.SetIdle(idle + tuning.HubLater)
	return w, func() { agent.Close(); hub.Close(); agent.Wait(); hub.Wait() }
}

func TestTwoSessionsAtRestCostLessThanAMegabyteADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lead, endLead := restingSession(LeadIdle)
		spare, endSpare := restingSession(SpareIdle)
		<-time.After(24 * time.Hour)
		synctest.Wait()
		total := lead.bytes + spare.bytes
		t.Logf("a day at rest: %d + %d bytes", lead.bytes, spare.bytes)
		if total > 1<<20 {
			t.Errorf("a day at rest costs %d + %d bytes", lead.bytes, spare.bytes)
		}
		if spare.bytes < 50_000 {
			t.Errorf("the spare one sent %d bytes: a middlebox forgets it, and a dead hub is not found", spare.bytes)
		}
		endLead()
		endSpare()
	})
}
