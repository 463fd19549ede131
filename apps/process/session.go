package process

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Config is what a [Session] is made of.
type Config struct {
	ID      string // sent to the caller, which returns with it; may be empty
	Program Program

	Keep  bool          // lives on when its caller is lost
	Idle  time.Duration // ends after so long without input and output; 0 is never
	Limit time.Duration // ends after so long; 0 is never

	Record Recorder   // may be nil
	Ended  func(Exit) // may be nil; called once, after the program has gone and before its caller is informed
}

// Recorder stores what a session shows. An error ends the session, so that nothing goes unrecorded.
// Its methods may be called from any goroutine, and after Close.
type Recorder interface {
	Output(p []byte) error
	Resize(s Size) error
	Close() error
}

// Session is a program that runs for a peer, and the flow that it is attached to, if any. All
// methods may be called from any goroutine.
type Session struct {
	cfg   Config
	child *child
	in    *input
	begin sync.Once     // the first Attach: output must not come before started
	ended chan struct{} // closed by End
	done  chan struct{} // closed when nothing of the program is left

	last atomic.Int64 // of input or output, nanoseconds since started
	born time.Time

	out  sync.Mutex // held while output is recorded, stored and sent: before mu and Conn.mu
	tail tail       // guarded by out

	mu     sync.Mutex
	caller *attachment
	ending bool
	reason string

	toEnd    bool // the caller sent a signal to end it
	hasEnded bool // the program itself has ended; others of the session may run

	status int  // replaces that of the program if not 0
	exit   Exit // valid when done is closed
}

// attachment is one caller of a session.
type attachment struct {
	*Conn
	turn int // of the input
}

// Begin starts a program. Its output waits for the first [Session.Attach], which the caller of
// Begin must call. A program that cannot be started gives an *[answer.Error], and its recorder is
// closed.
func Begin(cfg Config) (*Session, error) {
	c, err := start(cfg.Program)
	if err != nil {
		if cfg.Record != nil {
			cfg.Record.Close()
		}
		return nil, err
	}
	return &Session{cfg: cfg, child: c, in: newInput(), ended: make(chan struct{}), done: make(chan struct{}),
		born: time.Now()}, nil
}

// End ends the program and all of its session. The caller receives the reason. It does not wait;
// see [Session.Done].
func (s *Session) End(reason string) { s.endWith(reason, 0) }

func (s *Session) endWith(reason string, status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endLocked(reason, status)
}

func (s *Session) endLocked(reason string, status int) {
	if s.ending {
		return
	}
	s.ending, s.reason, s.status = true, reason, status
	close(s.ended)
}

// noteEnd records that the caller sent a signal to end the program, or that the program has ended.
// After both, the rest of the session ends too: background jobs of a shell ignore Ctrl-C and would
// hold the flow.
func (s *Session) noteEnd(toEnd, ended bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.toEnd, s.hasEnded = s.toEnd || toEnd, s.hasEnded || ended
	if s.toEnd && s.hasEnded {
		s.endLocked("", 0)
	}
}

// Done is closed when the program has ended and nothing of it is left.
func (s *Session) Done() <-chan struct{} { return s.done }

// Exit returns how the program ended. It is valid after Done.
func (s *Session) Exit() Exit {
	s.mu.Lock()
	exit := s.exit
	s.mu.Unlock()
	return exit
}

// Kept reports whether the session lives on without a caller.
func (s *Session) Kept() bool { return s.cfg.Keep }

// Attached reports whether the session has a caller.
func (s *Session) Attached() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.caller != nil
}

// Idle returns how long there was neither input nor output.
func (s *Session) Idle() time.Duration { return time.Since(s.born) - time.Duration(s.last.Load()) }

func (s *Session) touch() { s.last.Store(int64(time.Since(s.born))) }

// run is the life of the program after its start. It owns every goroutine of the session but those
// in Attach.
func (s *Session) run() {
	var copies, feeding sync.WaitGroup
	copies.Go(func() { s.pump(kindStdout, s.child.out) })
	if s.child.err != nil {
		copies.Go(func() { s.pump(kindStderr, s.child.err) })
	}
	feeding.Go(func() {
		s.in.feed(s.child.in, s.grant)
		if !s.child.tty {
			s.child.in.Close()
		}
	})
	over := make(chan struct{}) // closed by settle
	go s.settle(&copies, over)
	s.await(over)

	status := s.child.reap()
	s.in.close()
	s.child.close()
	feeding.Wait()
	s.conclude(status)
}

// settle waits until the program has ended and its output has been read.
func (s *Session) settle(copies *sync.WaitGroup, over chan<- struct{}) {
	defer close(over)
	s.child.exited()
	if s.child.tty {
		s.child.drain() // a job in the background may hold the terminal for long
	} else {
		s.noteEnd(false, true)
	}
	copies.Wait()
}

// await returns when the program is over. It ends the program at a limit or after End.
func (s *Session) await(over <-chan struct{}) {
	var idle, limit <-chan time.Time
	if s.cfg.Limit > 0 {
		t := time.NewTimer(s.cfg.Limit)
		defer t.Stop()
		limit = t.C
	}
	for {
		if s.cfg.Idle > 0 {
			idle = time.After(max(s.cfg.Idle-s.Idle(), time.Millisecond))
		}
		select {
		case <-over:
			return
		case <-s.ended:
			s.stop(over)
			return
		case <-limit:
			s.endWith(fmt.Sprintf("it took longer than %v", s.cfg.Limit), StatusTimeout)
		case <-idle:
			if s.Idle() >= s.cfg.Idle {
				s.End(fmt.Sprintf("it was idle for %v", s.cfg.Idle))
			}
		}
	}
}

// stop ends every process of the session: SIGHUP first, SIGKILL after [grace].
func (s *Session) stop(over <-chan struct{}) {
	s.child.hangup()
	late := time.NewTimer(grace)
	defer late.Stop()
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	for waiting := true; waiting; {
		select {
		case <-late.C:
			waiting = false
		case <-look.C:
			waiting = s.child.alive()
		}
	}
	s.child.kill()
	s.child.exited()
	s.child.drain() // a process that left the session may still hold the pipes
	<-over
}

// conclude informs the owner of the session, the recorder and then the caller, if there is one.
func (s *Session) conclude(e Exit) {
	s.mu.Lock()
	e.Reason = s.reason
	if s.status != 0 {
		e.Status = s.status
	}
	s.exit = e
	s.mu.Unlock()
	if s.cfg.Ended != nil {
		s.cfg.Ended(e)
	}
	s.mu.Lock()
	a := s.caller
	if s.cfg.Record != nil {
		s.cfg.Record.Close()
	}
	close(s.done)
	s.mu.Unlock()
	if a != nil {
		a.tellExit(e)
	}
}

// grant lets the caller send more, if the turn is still its own.
func (s *Session) grant(turn, n int) {
	s.mu.Lock()
	a := s.caller
	s.mu.Unlock()
	if a != nil && a.turn == turn {
		a.sendBytes(kindWindow, []byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
	}
}
