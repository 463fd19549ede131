package suspicion

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// line is a connection of which a test says from when to when it hangs.
type line struct {
	began    time.Time
	from, to time.Duration // it hangs; to 0 is for ever
	rtt      time.Duration
	keep     bool // it is not given up
	busy     bool // other things come, but no PONG

	mu    sync.Mutex
	pings int
	lost  []time.Duration // when Lost was called
	over  chan struct{}
	wg    sync.WaitGroup
}

func newLine(from, to time.Duration) (*line, *Suspicion) {
	l := &line{began: time.Now(), from: from, to: to, rtt: 20 * time.Millisecond, over: make(chan struct{})}
	return l, New(Config{Ping: l.ping, Heard: l.heard, RTT: func() time.Duration { return l.rtt },
		Go: func(f func()) bool { l.wg.Go(f); return true }, Lost: l.isLost})
}

func (l *line) hangs() bool {
	at := time.Since(l.began)
	return at >= l.from && (l.to == 0 || at < l.to)
}

// ping is answered after a round trip, or when it hangs no more.
func (l *line) ping(ctx context.Context) error {
	l.mu.Lock()
	l.pings++
	l.mu.Unlock()
	wait := l.rtt
	if l.hangs() {
		if wait = l.to - time.Since(l.began); l.to == 0 {
			wait = time.Hour
		}
	}
	select {
	case <-time.After(wait):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-l.over:
		return errors.New("over")
	}
}

func (l *line) heard() time.Time {
	if !l.hangs() || l.busy {
		return time.Now()
	}
	return l.began.Add(l.from)
}

func (l *line) isLost() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lost = append(l.lost, time.Since(l.began))
	return !l.keep
}

// request is answered after some time unless the line hangs then; it reports how it ended and when.
func (l *line) request(s *Suspicion, takes time.Duration) (took time.Duration, err error) {
	ctx, stop := s.Watch(context.Background())
	defer stop()
	began := time.Now()
	answer := time.After(takes)
	if l.to == 0 {
		answer = nil
	}
	select {
	case <-answer:
		return time.Since(began), nil
	case <-ctx.Done():
		return time.Since(began), context.Cause(ctx)
	}
}

func TestAnAnswerInTimeCostsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, s := newLine(time.Hour, 2*time.Hour)
		if _, err := l.request(s, minTimeout-1); err != nil {
			t.Error(err)
		}
		<-time.After(time.Minute)
		if l.pings != 0 || s.Suspect() {
			t.Errorf("%d PINGs were sent, suspect: %v", l.pings, s.Suspect())
		}
	})
}

func TestALateAnswerOfSomebodyWhoLivesIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, s := newLine(time.Hour, 2*time.Hour)
		if took, err := l.request(s, time.Minute); err != nil || took != time.Minute {
			t.Errorf("after %v: %v", took, err)
		}
		if l.pings != 1 || s.Suspect() {
			t.Errorf("%d PINGs were sent, suspect: %v", l.pings, s.Suspect())
		}
	})
}

func TestWhoHangsIsSuspectSoonAndThenLost(t *testing.T) {
	for name, tt := range map[string]struct{ rtt, suspect time.Duration }{
		"near":     {10 * time.Millisecond, 620 * time.Millisecond},
		"far":      {100 * time.Millisecond, 800 * time.Millisecond},
		"very far": {250 * time.Millisecond, 1100 * time.Millisecond}, // four more are a flow elsewhere
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, s := newLine(0, 0)
				l.rtt = tt.rtt
				took, err := l.request(s, time.Hour)
				if !errors.Is(err, Err) || took != tt.suspect || !s.Suspect() {
					t.Errorf("after %v: %v", took, err)
				}
				l.wg.Wait()
				if len(l.lost) != 1 || l.lost[0] != tt.suspect/2+MaxSilence || !s.Suspect() {
					t.Errorf("lost at %v, suspect: %v", l.lost, s.Suspect())
				}
			})
		})
	}
}

func TestASignOfLifeClears(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, s := newLine(0, 2*time.Second)
		if took, err := l.request(s, time.Hour); !errors.Is(err, Err) || took != 2*s.Timeout() {
			t.Errorf("after %v: %v", took, err)
		}
		l.wg.Wait()
		if s.Suspect() || len(l.lost) != 0 {
			t.Errorf("suspect: %v, lost at %v", s.Suspect(), l.lost)
		}
		if _, err := l.request(s, time.Minute); err != nil {
			t.Errorf("a later request: %v", err)
		}
	})
}

func TestWhoIsNotGivenUpIsAskedOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, s := newLine(0, 10*time.Second)
		l.keep = true
		s.Overdue()
		s.Overdue() // one check at a time
		l.wg.Wait()
		if s.Suspect() || len(l.lost) < 2 {
			t.Errorf("suspect: %v, given up %d times", s.Suspect(), len(l.lost))
		}
	})
}

func TestAnythingThatComesIsASignOfLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, s := newLine(0, 0)
		l.busy = true
		s.Overdue()
		l.wg.Wait()
		if s.Suspect() || len(l.lost) != 0 {
			t.Errorf("suspect: %v, lost at %v", s.Suspect(), l.lost)
		}
	})
}

func TestTheCheckEndsWithTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, s := newLine(0, 0)
		s.Overdue()
		<-time.After(time.Second)
		close(l.over)
		l.wg.Wait()
		if !s.Suspect() || len(l.lost) != 0 {
			t.Errorf("suspect: %v, lost at %v", s.Suspect(), l.lost)
		}
	})
}
