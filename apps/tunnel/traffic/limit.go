package traffic

import (
	"math"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"ztm/apps/tunnel/spec"
	"ztm/tunnel/answer"
	"ztm/tunnel/splice"
)

// Limiter is Limits at work. The zero value limits nothing.
type Limiter struct {
	Up, Down bucket
	max      atomic.Int64 // 0 means any number
	active   atomic.Int64
}

// Set changes the limits, also for flows that run.
func (l *Limiter) Set(to spec.Limits) {
	l.Up.set(to.RateUp)
	l.Down.set(to.RateDown)
	l.max.Store(int64(to.MaxConns))
}

// Enter counts a flow, or refuses it when there are too many. The caller calls leave when the flow
// is over.
func (l *Limiter) Enter(k spec.Key) (leave func(), err error) {
	n, most := l.active.Add(1), l.max.Load()
	if most > 0 && n > most {
		l.active.Add(-1)
		return nil, answer.Errorf(answer.Limit, "tunnel %s has its limit of %d connections", k, most)
	}
	return func() { l.active.Add(-1) }, nil
}

// bucket lets bytes pass at a rate, in the order in which they come. It holds no bytes: who wants
// to pass waits. The zero value has no limit.
//
// It counts on two meters: issued is how many bytes have asked to pass, passed is how many the rate
// has let through so far. A byte may go when the second meter comes near its number on the first.
type bucket struct {
	limited atomic.Bool // rate > 0, to be quick where there is none

	mu      sync.Mutex
	rate    float64
	issued  float64
	passed  float64
	at      time.Time     // when passed was right
	changed chan struct{} // closed when the rate changes; nil while nobody waits
}

// burst is how much of a second's bytes may pass at once.
const burst = 1.0 / 16

func (b *bucket) set(r spec.Rate) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.rate == float64(r) {
		return
	}
	b.settleLocked(time.Now())
	b.rate = float64(r)
	b.limited.Store(r > 0)
	if b.changed != nil {
		close(b.changed)
		b.changed = nil
	}
}

// settleLocked brings passed up to date.
func (b *bucket) settleLocked(now time.Time) {
	b.passed = math.Min(b.issued, b.passed+b.rate*now.Sub(b.at).Seconds())
	if b.rate == 0 {
		b.passed = b.issued
	}
	b.at = now
}

// portion returns how many bytes may be moved at once, at most n, so that nobody waits long for one
// piece.
func (b *bucket) portion(n int) int {
	if !b.limited.Load() {
		return n
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return min(n, max(int(b.rate*burst), 1))
}

// pass waits until n bytes may pass, or until done is closed.
func (b *bucket) pass(n int, done <-chan struct{}) {
	if n == 0 || !b.limited.Load() {
		return
	}
	b.mu.Lock()
	b.settleLocked(time.Now())
	b.issued += float64(n)
	mine := b.issued
	for {
		b.settleLocked(time.Now())
		ahead := mine - b.passed - b.rate*burst
		if b.rate == 0 || ahead <= 0 {
			b.mu.Unlock()
			return
		}
		if b.changed == nil {
			b.changed = make(chan struct{})
		}
		changed, delay := b.changed, time.Duration(ahead/b.rate*float64(time.Second))
		b.mu.Unlock()
		if !pause(delay, changed, done) {
			return
		}
		b.mu.Lock()
	}
}

// pause waits for d or for changed, and reports false when done is closed.
func pause(d time.Duration, changed, done <-chan struct{}) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-changed:
	case <-done:
		return false
	}
	return true
}

// metered is the outer end of a flow, the client's or the target's connection. It counts the bytes
// that pass, and lets them pass no faster than they may: what is read waits, in the reader's
// buffer, before it is handed on, so that the sender finds its window closed.
type metered struct {
	net.Conn
	in, out    *bucket // for what is read, for what is written
	read, sent func(int)

	once sync.Once
	done chan struct{} // closed when the connection is closed
}

// Meter makes the outer end of a flow; in and read are for what comes from c, out and sent for what
// goes to it.
func Meter(c net.Conn, in, out *bucket, read, sent func(int)) *metered {
	return &metered{Conn: c, in: in, out: out, read: read, sent: sent, done: make(chan struct{})}
}

func (m *metered) Read(p []byte) (int, error) {
	n, err := m.Conn.Read(p[:m.in.portion(len(p))])
	m.in.pass(n, m.done)
	m.read(n)
	return n, err
}

func (m *metered) Write(p []byte) (total int, err error) {
	for len(p) > 0 {
		n := m.out.portion(len(p))
		m.out.pass(n, m.done)
		n, err = m.Conn.Write(p[:n])
		m.sent(n)
		total += n
		if err != nil {
			break
		}
		p = p[n:]
	}
	return total, err
}

// Direct is Write without waiting, where there is no limit to wait for: see [splice.Direct].
func (m *metered) Direct() func(p []byte) int {
	try := splice.Direct(m.Conn)
	if try == nil {
		return nil
	}
	return func(p []byte) int {
		if m.out.limited.Load() {
			return 0
		}
		n := try(p)
		m.sent(n)
		return n
	}
}

// ReadsFrom is for [splice.Waiter].
func (m *metered) ReadsFrom() net.Conn { return m.Conn }

// EndsByClose is for [splice.Join].
func (m *metered) EndsByClose() bool { return splice.EndsByClose(m.Conn) }

// CloseWrite passes a half-close on to a connection that can.
func (m *metered) CloseWrite() error { return splice.CloseWrite(m.Conn) }

// Close closes the connection and ends all waiting.
func (m *metered) Close() error {
	m.once.Do(func() { close(m.done) })
	return m.Conn.Close()
}

// Reset ends the connection so that the other side sees a failure.
func (m *metered) Reset() error {
	m.once.Do(func() { close(m.done) })
	splice.Abort(m.Conn)
	return nil
}
