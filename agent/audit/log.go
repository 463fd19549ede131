package audit

import (
	"sync"
	"time"

	"ztm/tunnel/identity"
)

// Config is what a [Log] needs. All of it is set.
type Config struct {
	Lines int                          // how many the ring keeps
	Self  func() (string, identity.ID) // this endpoint
	Name  func(identity.ID) string     // the name of a peer, "" where it is not known; it does not wait
	Now   func() time.Time             // of the times in lines
}

// Log is the audit log of one mesh. Make it with [New] and end it with Close. Its methods may be called
// from any goroutine.
type Log struct {
	config Config
	done   chan struct{} // closed by Close

	mu      sync.Mutex
	ring    *ring         // guarded by mu
	merge   merge         // guarded by mu
	timer   *time.Timer   // writes what was merged; nil while nothing can be; guarded by mu
	seq     uint64        // of the last line; guarded by mu
	signed  uint64        // of the last checkpoint; guarded by mu
	out     func(Entry)   // guarded by mu
	prev    string        // the hash of the last line; guarded by mu
	changed chan struct{} // closed with the next line; nil while nobody waits; guarded by mu
}

// New makes a log.
func New(c Config) *Log {
	return &Log{config: c, done: make(chan struct{}), ring: newRing(c.Lines), merge: newMerge()}
}

// Close has the log do nothing by itself any longer, and ends requests that wait. It stays readable.
func (l *Log) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended() {
		return
	}
	close(l.done)
	if l.timer != nil {
		l.timer.Stop()
	}
}

func (l *Log) ended() bool {
	select {
	case <-l.done:
		return true
	default:
		return false
	}
}

// Add records a line. It never waits.
func (l *Log) Add(line Line) {
	line.bound()
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.settleLocked(now)
	if line.administrative() || !l.merge.repeated(&line, now) {
		l.writeLocked(line)
	}
	l.wakeLocked(now)
}

// settleLocked writes one line for each kind of repeats whose time is over.
func (l *Log) settleLocked(now time.Time) {
	for _, line := range l.merge.due(now) {
		l.writeLocked(line)
	}
}

// wakeLocked sees to it that what is merged is written in time, though no other line comes.
func (l *Log) wakeLocked(now time.Time) {
	if l.timer == nil && !l.ended() && len(l.merge.queue) > 0 {
		l.timer = time.AfterFunc(l.merge.queue[0].since.Add(mergeTime).Sub(now), l.settle)
	}
}

func (l *Log) settle() {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.timer = nil
	l.settleLocked(now)
	l.wakeLocked(now)
}

// Last returns the number of the last line.
func (l *Log) Last() uint64 {
	l.mu.Lock()
	seq := l.seq
	l.mu.Unlock()
	return seq
}

// writeLocked gives a line its place in the log.
func (l *Log) writeLocked(line Line) {
	l.seq++
	line.at = l.config.Now().UTC()
	line.V, line.Seq, line.Prev, line.Time = Version, l.seq, l.prev, stamp(line.at)
	line.Endpoint, line.EndpointID = l.config.Self()
	if line.Peer == "" && line.PeerID != "" {
		line.Peer = l.config.Name(line.PeerID)
	}
	line.bound()
	text := line.Encode()
	l.prev = hashOf(text)
	l.ring.add(&line)
	if l.out != nil {
		l.out(Entry{&line, text})
	}
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// Filter narrows what [Log.Lines] returns. The zero value matches every line.
type Filter struct {
	User, Peer, App, Ref string    // exact; Peer is a name or an ID
	Since                time.Time // only lines from then on
	Refused              bool      // only what was refused or cut
	After                uint64    // only lines with a higher number
}

// match reports whether a line is wanted.
func (f Filter) match(l *Line) bool {
	return (f.User == "" || l.User == f.User) && (f.App == "" || l.App == f.App) && (f.Ref == "" || l.Ref == f.Ref) &&
		(f.Peer == "" || l.Peer == f.Peer || string(l.PeerID) == f.Peer) &&
		!l.at.Before(f.Since) && (!f.Refused || l.Result != OK) && l.Seq > f.After
}

// Lines returns the lines that match, oldest first, and a channel that is closed when there are
// more. A number in [Filter.After] that no line has yet is of an earlier run, and counts for nothing.
func (l *Log) Lines(f Filter) (lines []Line, more <-chan struct{}) {
	l.mu.Lock()
	all := l.ring.all()
	if f.After > l.seq {
		f.After = 0
	}
	if l.changed == nil {
		l.changed = make(chan struct{})
	}
	more = l.changed
	l.mu.Unlock()
	lines = []Line{}
	for _, line := range all { // lines do not change
		if f.match(line) {
			lines = append(lines, *line)
		}
	}
	return lines, more
}

// Forget drops the lines about a user from the ring, and records that it did, without the name. It
// returns how many lines there were.
func (l *Log) Forget(user string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.ring.forget(user) + l.merge.forget(user)
	l.writeLocked(Line{Event: Forgot, Result: OK, Target: "forget", Count: n})
	return n
}
