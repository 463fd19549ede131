// Package suspicion finds out within a second that somebody hangs who seems to be there: its
// connection stands, and nothing comes.
//
//	an answer is overdue -> PING -> no PONG in the same time -> suspect -> silent for MaxSilence -> Lost
//	                                                  a PONG, or any byte: cleared
//
// At rest it costs nothing: no timer runs and nothing is sent.
package suspicion

import (
	"context"
	"errors"
	"sync"
	"time"
)

const (
	// MaxSilence is how long somebody may be silent after a PING before it counts as lost.
	MaxSilence = 2500 * time.Millisecond

	// minTimeout is how long an answer may take beside its way: less is what a busy machine takes.
	minTimeout = 300 * time.Millisecond
)

// Err is why the context of a [Suspicion.Watch] ends.
var Err = errors.New("no sign of life")

// Config is what a Suspicion is about. All of it is set.
type Config struct {
	Ping  func(ctx context.Context) error // returns when the PONG is there, ctx ends, or the connection is over
	Heard func() time.Time                // when something came last
	RTT   func() time.Duration            // the round trip; 0 is unknown
	Go    func(func()) bool               // runs a function in a goroutine that somebody waits for; false if it does not

	// Lost is called when nothing came for MaxSilence. If it returns false, nothing is done and it is
	// asked again as long as the silence lasts.
	Lost func() (ended bool)
}

// Suspicion is about one connection. Make it with [New]. It is safe for concurrent use.
type Suspicion struct {
	Config

	mu       sync.Mutex
	checking bool
	suspect  bool
	trusted  context.Context // ends with Err when it becomes suspect; replaced when it is cleared
	accuse   context.CancelCauseFunc
}

// New makes a Suspicion of a connection that is not suspect.
func New(c Config) *Suspicion {
	s := &Suspicion{Config: c}
	s.trusted, s.accuse = context.WithCancelCause(context.Background())
	return s
}

// Suspect reports whether the connection is suspected to hang.
func (s *Suspicion) Suspect() bool {
	s.mu.Lock()
	suspect := s.suspect
	s.mu.Unlock()
	return suspect
}

// Timeout is how long an answer may take. It is waited for twice before somebody is suspect, and on a
// long way, too, flows are to begin elsewhere within two seconds.
func (s *Suspicion) Timeout() time.Duration { return minTimeout + s.RTT() }

// Watch is for a request whose answer comes over the connection: the context ends with [Err] when
// the connection is suspect, which is looked into as soon as the answer is overdue. stop is called
// when the answer is there.
func (s *Suspicion) Watch(ctx context.Context) (watched context.Context, stop func()) {
	watched, cancel := context.WithCancelCause(ctx)
	late := time.AfterFunc(s.Timeout(), s.Overdue)
	s.mu.Lock()
	unhook := context.AfterFunc(s.trusted, func() { cancel(Err) })
	s.mu.Unlock()
	return watched, func() {
		late.Stop()
		unhook()
		cancel(nil)
	}
}

// Overdue says that an answer is late: the connection is asked for a sign of life, unless it is
// being asked.
func (s *Suspicion) Overdue() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.checking {
		return
	}
	s.checking = s.Go(s.check)
}

// check asks for a sign of life until there is one or the connection is over.
func (s *Suspicion) check() {
	began := time.Now()
	alive, over := s.lives(began, s.Timeout())
	if !alive {
		s.set(true)
	}
	for !alive && !over {
		if alive, over = s.lives(began, max(MaxSilence-time.Since(began), minTimeout)); !alive && !over && time.Since(began) >= MaxSilence {
			over = s.Lost()
		}
	}
	s.mu.Lock()
	s.checking = false
	s.mu.Unlock()
	if alive {
		s.set(false)
	}
}

// lives waits for a sign of life since a moment. over reports that the connection has ended.
func (s *Suspicion) lives(since time.Time, most time.Duration) (alive, over bool) {
	ctx, cancel := context.WithTimeout(context.Background(), most)
	defer cancel()
	err := s.Ping(ctx)
	alive = err == nil || s.Heard().After(since)
	return alive, !alive && ctx.Err() == nil
}

// set makes it suspect, or clears it.
func (s *Suspicion) set(suspect bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.suspect == suspect {
		return
	}
	s.suspect = suspect
	if suspect {
		s.accuse(Err)
		return
	}
	s.trusted, s.accuse = context.WithCancelCause(context.Background())
}
