package limit

import (
	"net"
	"sync"
	"time"

	"ztm/tunnel/splice"
)

// Pace is a speed that connections share. Make connections keep it with [Pace.Conn]. The zero value
// is no limit.
type Pace struct {
	mu        sync.Mutex
	perSecond int64
	next      time.Time // when the time of all bytes so far is over
}

// Set changes the speed, in bytes a second, for what is read and written from now on. Zero is no
// limit.
func (p *Pace) Set(perSecond int64) {
	p.mu.Lock()
	p.perSecond = perSecond
	p.mu.Unlock()
}

const (
	paceSteps = 16 // in a second: what goes at once is so much of a second
	paceLeast = 512
)

// most returns how many of n bytes may go at once, so that connections take turns.
func (p *Pace) most(n int) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.perSecond == 0 {
		return n
	}
	return int(min(int64(n), max(p.perSecond/paceSteps, paceLeast)))
}

// spend returns how long to wait after n bytes. Time in which nothing went by is not made up for.
func (p *Pace) spend(n int, now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.perSecond == 0 {
		return 0
	}
	if p.next.Before(now) {
		p.next = now
	}
	p.next = p.next.Add(time.Duration(float64(n) / float64(p.perSecond) * float64(time.Second)))
	return p.next.Sub(now)
}

// Conn returns c at this speed: what is read and what is written count together. Close ends what
// waits. CloseWrite and Reset are those of c.
func (p *Pace) Conn(c net.Conn) net.Conn {
	return &paced{Conn: c, pace: p, closed: make(chan struct{})}
}

type paced struct {
	net.Conn
	pace   *Pace
	once   sync.Once
	closed chan struct{}
}

func (c *paced) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b[:c.pace.most(len(b))])
	c.wait(n)
	return n, err
}

func (c *paced) Write(b []byte) (n int, err error) {
	for len(b) > 0 && err == nil {
		var m int
		m, err = c.Conn.Write(b[:c.pace.most(len(b))])
		n, b = n+m, b[m:]
		c.wait(m)
	}
	return n, err
}

// wait waits until n bytes have had their time.
func (c *paced) wait(n int) {
	d := c.pace.spend(n, time.Now())
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-c.closed:
	}
}

func (c *paced) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// CloseWrite ends the writing direction, where the connection can.
func (c *paced) CloseWrite() error {
	return splice.CloseWrite(c.Conn)
}

// Reset ends the connection so that the peer sees a failure, where the connection can.
func (c *paced) Reset() error {
	c.once.Do(func() { close(c.closed) })
	splice.Abort(c.Conn)
	return nil
}
