package h2

import (
	"cmp"
	"encoding/binary"
	"time"

	"ztm/tunnel/h2/lately"
	"ztm/tunnel/h2/wire"
)

// How windows follow the path (as gRPC does, and QUIC implementations):
//
//	a stream    at each eighth of its window that is taken: if it went at a rate that fills the window within a round trip, the window grows
//	            up to four times, to two round trips of that rate. New streams begin with what the largest has learned.
//	connection  a quarter more than the largest stream has grown to, given back when bytes come, not when they are taken: a reader that stops
//	            keeps back its own stream and no other; less where others of the process want to grow, too
//	round trip  the least of PINGs, one a second while data comes
//	budget      one for the process: where it becomes short all windows shrink, new ones begin small, and none grows (package budget)
type windows struct {
	connWindow int   // bytes that the peer may send without hearing from us
	recv       int64 // what of it is left to the peer
	connCredit int   // came and was not given back yet
	learned    int   // window of new streams
	announced  int   // window of new streams in the last SETTINGS
	base       int   // in the last SETTINGS that the peer has acknowledged
	unacked    []int // in those that it has not, in order
	epoch      int   // how many were acknowledged
	shrunk     int   // what the budget has made of learned; 0: nothing
	held       int   // bytes of chunks
	grown      int   // bytes of connWindow that are reserved in the budget

	pings    []chan time.Duration // who waits for a round trip
	pinging  bool
	pingNo   uint64
	pingSent time.Time
	rtt      time.Duration // 0: unknown
	trip     lately.Trip
	heard    time.Time // when a frame came last
	timer    *time.Timer
}

func (w *windows) init(o Options) {
	w.learned, w.announced, w.base = o.Window, o.Window, wire.FirstWindow
	w.unacked = []int{o.Window}
	w.connWindow = max(connectionFor(o.Window), wire.FirstWindow)
	w.recv = int64(w.connWindow)
	w.rtt = o.RTT
	w.heard = time.Now()
}

// connectionFor is the window of a connection whose largest stream has such a one. Also while a step of
// it is not given back yet that stream cannot use it up, and small ones need not wait.
func connectionFor(stream int) int { return stream + stream/4 }

// step is how much of a window is given back at once. An eighth keeps the sender going where the window
// is just what the path wants; less than 16 KiB are worth a frame only where the window is small.
func step(window int) int { return min(window/4, max(window/8, 16<<10)) }

// recvWindow is that of one stream.
type recvWindow struct {
	window int       // what the peer may send without hearing from us
	recv   int64     // what of it is left to the peer; negative after a window was made smaller (RFC 9113 section 6.9.2)
	epoch  int       // of the SETTINGS that recv counts with
	credit int       // was taken since the last update
	owed   int       // came while the budget was short: the connection's window for it is given back when it is taken
	since  time.Time // when the last update was sent
}

// beginLocked sets the window that the peer begins with: for a stream of ours, that of the last
// SETTINGS, which it reads before; for one of its own, that of the last SETTINGS that it has
// acknowledged.
func (r *recvWindow) beginLocked(c *Conn, ours bool) {
	r.window, r.epoch = c.base, c.epoch
	if ours {
		r.window, r.epoch = c.announced, c.epoch+len(c.unacked)
	}
	r.recv = int64(r.window)
}

// mostLocked is what the peer may send at the most: it may count with SETTINGS whose
// acknowledgement we have not read.
func (s *Stream) mostLocked() int64 {
	most := s.recv
	recv, before := s.recv, s.conn.base
	for i, n := range s.conn.unacked {
		if s.conn.epoch+i >= s.epoch {
			recv += int64(n - before)
			most = max(most, recv)
		}
		before = n
	}
	return most
}

// holdLocked counts bytes of chunks.
func (c *Conn) holdLocked(n int) {
	c.held += n
	c.o.Budget.Hold(n)
}

// receivedLocked gives back what came to the window of the connection, if the budget allows. What
// comes for a request that was not answered, and may yet be refused, is given back when it is
// taken.
func (c *Conn) receivedLocked(s *Stream, length int) {
	c.pressLocked()
	c.measureLocked()
	if c.o.Budget.Spent(c.held) || !c.client && !s.answered {
		s.owed += length
		return
	}
	c.creditConnLocked(length)
}

// creditConnLocked gives back n bytes to the window of the connection, less what others may have of
// it.
func (c *Conn) creditConnLocked(n int) {
	c.connCredit += n
	if c.connCredit < step(c.connWindow) {
		return
	}
	yielded := c.o.Budget.Yield(c.grown, c.connCredit)
	c.grown -= yielded
	c.connWindow -= yielded
	if back := c.connCredit - yielded; back > 0 {
		c.recv += int64(back)
		c.pending = wire.AppendWindow(c.pending, 0, int64(back))
		c.flushSoonLocked()
	}
	c.connCredit = 0
}

// takenLocked notes that a reader has taken n bytes of a stream. What it appends is flushed by the
// caller, or with the next frame.
func (s *Stream) takenLocked(n int) {
	c := s.conn
	if n == 0 || c.err != nil {
		return
	}
	if owed := min(n, s.owed); owed > 0 {
		s.owed -= owed
		c.creditConnLocked(owed)
	}
	c.recoverLocked()
	s.credit += n
	s.updateLocked()
}

// updateLocked gives back what of the window is free, where that is worth a frame.
func (s *Stream) updateLocked() {
	c := s.conn
	free := func() int64 { return int64(s.window) - s.recv - int64(s.unread) }
	if s.remoteEnd || s.over || s.closed || free() < int64(step(s.window)) {
		return // also where the peer sends no more
	}
	s.growLocked()
	inc := free()
	s.recv += inc
	s.credit = 0
	c.pending = wire.AppendWindow(c.pending, s.id, inc)
	c.flushSoonLocked()
}

// growLocked makes the window larger if the path would take more. credit bytes were taken since the
// last update.
func (s *Stream) growLocked() {
	c := s.conn
	now := time.Now()
	took := now.Sub(s.since)
	first := s.since.IsZero()
	s.since = now
	if first || c.rtt == 0 || c.shrunk > 0 || took <= 0 {
		return
	}
	want := int64(2 * float64(s.credit) * float64(c.rtt) / float64(took))
	window := int(min(want, 4*int64(s.window), int64(c.o.MaxWindow)))
	if grow := connectionFor(window) - c.connWindow; grow > 0 { // also what others have had of it meanwhile
		if grow = c.o.Budget.Grow(c.grown, grow); grow > 0 {
			c.grown += grow
			c.connWindow += grow
			c.recv += int64(grow)
			c.pending = wire.AppendWindow(c.pending, 0, int64(grow))
		}
		window = min(window, c.connWindow/5*4) // the reverse of connectionFor
	}
	if window <= s.window {
		return
	}
	s.window = window
	if s.window > c.learned {
		c.learned = s.window
		c.announceLocked(c.learned)
	}
}

// announceLocked changes the window that streams begin with, and that of those which are open by
// the difference, from the acknowledgement on (RFC 9113 section 6.9.2).
func (c *Conn) announceLocked(window int) {
	if window == c.announced || len(c.unacked) > 0 {
		return
	}
	c.announced = window
	c.unacked = append(c.unacked, window)
	c.pending = wire.AppendSettings(c.pending, wire.Setting{ID: wire.SettingInitialWindow, Value: uint32(window)})
	c.flushSoonLocked()
}

// settledLocked is called when the peer has acknowledged SETTINGS.
func (c *Conn) settledLocked() {
	if len(c.unacked) == 0 {
		return
	}
	change := c.unacked[0] - c.base
	c.base, c.unacked = c.unacked[0], c.unacked[1:]
	c.epoch++
	for _, s := range c.streams {
		if s.epoch >= c.epoch {
			continue
		}
		s.epoch = c.epoch
		s.recv += int64(change)
		if change > 0 {
			s.window = max(s.window, c.base)
		} else {
			s.window = min(s.window, c.base)
		}
		s.updateLocked() // all may have been taken while the window was made smaller
	}
	if c.shrunk == 0 {
		c.announceLocked(c.learned) // it may have grown meanwhile
	}
}

// pressLocked makes windows small where the budget becomes short.
func (c *Conn) pressLocked() {
	want := c.o.Budget.Press()
	if want == 0 || want >= c.announced || c.shrunk > 0 && want > c.shrunk/2 || len(c.unacked) > 0 {
		return
	}
	c.shrunk = want
	c.announceLocked(want)
}

// recoverLocked gives back what pressLocked took.
func (c *Conn) recoverLocked() {
	if c.shrunk > 0 && len(c.unacked) == 0 && c.o.Budget.Enough() {
		c.shrunk = 0
		c.announceLocked(c.learned)
	}
}

// measureLocked measures the round trip while data comes, once a second.
func (c *Conn) measureLocked() {
	if !c.pinging && time.Since(c.pingSent) > time.Second {
		c.pingLocked()
	}
}

// pingLocked sends a PING if none is on its way.
func (c *Conn) pingLocked() {
	if c.pinging || c.err != nil {
		return
	}
	c.pinging, c.pingSent = true, time.Now()
	c.pingNo++
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], c.pingNo)
	c.pending = wire.AppendPing(c.pending, 0, b)
	c.flushSoonLocked()
}

// pongLocked reads the answer to a PING. Answers to none of ours are skipped.
func (c *Conn) pongLocked(b [8]byte) {
	if !c.pinging || binary.BigEndian.Uint64(b[:]) != c.pingNo {
		return
	}
	c.pinging = false
	took := max(time.Since(c.pingSent), time.Microsecond)
	if c.rtt == 0 || took < c.rtt {
		c.rtt = took
	}
	c.trip.Add(took)
	for _, p := range c.pings {
		p <- took
	}
	c.pings = nil
}

// RTT returns the least round trip that was measured, or what [Options] said; 0 if it is unknown.
func (c *Conn) RTT() time.Duration {
	c.mu.Lock()
	rtt := c.rtt
	c.mu.Unlock()
	return rtt
}

// Lately is RTT of the last minutes alone, so that it grows where the path becomes longer.
func (c *Conn) Lately() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return cmp.Or(c.trip.Least(), c.rtt)
}

// arm starts the one timer of the connection: for PING, for a dead peer, and for a write that takes
// too long.
func (c *Conn) arm() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.timer = time.AfterFunc(c.untilCheckLocked(), c.check)
	}
}

// untilCheckLocked is when the timer is due next.
func (c *Conn) untilCheckLocked() time.Duration {
	switch {
	case c.pinging:
		return c.o.PingWait
	case c.o.Idle > 0:
		return max(c.o.Idle-time.Since(c.heard), c.o.Idle/16)
	}
	return c.o.WriteWait
}

// check is called by the timer.
func (c *Conn) check() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return
	}
	now := time.Now()
	silent := now.Sub(c.heard)
	switch {
	case !c.began.IsZero() && now.Sub(c.began) > c.o.WriteWait:
		c.failLocked(errSlow, wire.NoError)
		return
	case c.pinging && now.Sub(c.pingSent) >= c.o.PingWait && silent >= c.o.PingWait: // also after a frame that had crossed the PING
		c.failLocked(errDead, wire.NoError)
		return
	case c.o.Idle > 0 && silent >= c.o.Idle:
		c.dismissLocked()
		c.pingLocked()
	}
	c.timer.Reset(c.untilCheckLocked())
}

func (c *Conn) stopTimersLocked() {
	if c.timer != nil {
		c.timer.Stop()
	}
	c.pings = nil // who waits sees done
}

type deadError string

func (e deadError) Error() string   { return string(e) }
func (e deadError) Timeout() bool   { return true }
func (e deadError) Temporary() bool { return false }

const (
	errDead = deadError("h2: the peer does not answer")
	errSlow = deadError("h2: the peer takes nothing")
)
