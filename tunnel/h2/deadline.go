package h2

import (
	"os"
	"time"
)

// deadlines are those of one stream. Most streams have none, and then they cost nothing but two
// pointers.
type deadlines struct {
	read, write *deadline // guarded by Conn.mu
}

// deadline is one of them.
type deadline struct {
	timer *time.Timer
	set   int  // how often it was: a timer that comes too late does nothing
	past  bool // it is over
}

func (d *deadline) err() error {
	if d != nil && d.past {
		return os.ErrDeadlineExceeded
	}
	return nil
}

// SetDeadline implements net.Conn.
func (s *Stream) SetDeadline(t time.Time) error {
	s.SetReadDeadline(t)
	return s.SetWriteDeadline(t)
}

// SetReadDeadline implements net.Conn.
func (s *Stream) SetReadDeadline(t time.Time) error { return s.setDeadline(&s.late.read, t) }

// SetWriteDeadline implements net.Conn.
func (s *Stream) SetWriteDeadline(t time.Time) error { return s.setDeadline(&s.late.write, t) }

func (s *Stream) setDeadline(at **deadline, t time.Time) error {
	c := s.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if *at == nil {
		if t.IsZero() {
			return nil
		}
		*at = &deadline{}
	}
	d := *at
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	d.set++
	d.past = false
	if t.IsZero() || s.over {
		return nil
	}
	if wait := time.Until(t); wait > 0 {
		set := d.set
		d.timer = time.AfterFunc(wait, func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			if d.set == set {
				s.expireLocked(d)
			}
		})
		return nil
	}
	s.expireLocked(d)
	return nil
}

// expireLocked wakes who waits.
func (s *Stream) expireLocked(d *deadline) {
	d.past = true
	s.readable.Broadcast()
	s.writable.Broadcast()
}

func (l *deadlines) stop() {
	for _, d := range []*deadline{l.read, l.write} {
		if d != nil && d.timer != nil {
			d.timer.Stop()
		}
	}
}
