package run

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"ztm/tunnel/answer"
)

// How a program that ends by itself is started again.
const (
	firstPause = time.Second
	lastPause  = 5 * time.Minute
	healthy    = time.Minute // a program that ran for so long was no failure
	giveUp     = 10          // failures in a row
)

// State is what a runner does.
type State string

// The states.
const (
	Stopped State = "stopped" // it starts when somebody asks for it
	Running State = "running"
	Waiting State = "waiting" // it ended by itself, and may be started again in a moment
	Failed  State = "failed"  // it failed too often: a person has to start it
)

// Status is a runner for people.
type Status struct {
	State    State     `json:"state"`
	Since    time.Time `json:"since,omitzero"` // when the running program was started
	PID      int       `json:"pid,omitempty"`
	Flows    int       `json:"flows"`              // connections to it
	Restarts int       `json:"restarts"`           // after it ended by itself
	Error    string    `json:"error,omitempty"`    // why it ended by itself, or was not started
	Ended    string    `json:"ended,omitempty"`    // why it was ended, while it is stopped
	Confined string    `json:"confined,omitempty"` // what holds the running program
	Memory   int64     `json:"memory,omitempty"`   // bytes that all of its processes hold
}

// Runner runs one app. Its methods may be called from any goroutine.
type Runner struct {
	id     string // static
	group  *Group // static
	config Config // static
	ring   *ring  // static

	mu       sync.Mutex
	proc     *proc       // nil while none runs
	fails    int         // in a row
	until    time.Time   // no start before
	last     string      // why the last one ended by itself, or was not started
	ended    string      // why the last one was ended
	restarts int         //
	again    *time.Timer // starts it, where it runs by itself; nil while it need not
	closed   bool
}

// writeBuffer is what the kernel holds of a connection for a program that has not read it yet, in bytes.
// With its default, of three writes, one side waits for the other too often.
const writeBuffer = 512 << 10

// Dial connects to the program, which is started if it does not run. Errors are *[answer.Error]. The
// connection ends when the program does.
func (r *Runner) Dial(ctx context.Context) (net.Conn, error) {
	p, err := r.running(ctx)
	if err != nil {
		return nil, err
	}
	c, err := new(net.Dialer).DialContext(ctx, "unix", p.socket)
	if err != nil {
		r.leave(p)
		return nil, r.gone(ctx, p)
	}
	u := c.(*net.UnixConn)
	u.SetWriteBuffer(writeBuffer) // as much of it as the system allows
	return &conn{UnixConn: u, left: sync.OnceFunc(func() { r.leave(p) })}, nil
}

// gone says why a program takes no connections: it has just ended, or its queue is full.
func (r *Runner) gone(ctx context.Context, p *proc) error {
	late := time.NewTimer(p.grace)
	defer late.Stop()
	select {
	case <-p.done:
		s := r.Status()
		return answer.Errorf(answer.Unavailable, "the app %s has ended: %s", r.id, cmp.Or(s.Error, s.Ended))
	case <-late.C:
	case <-ctx.Done():
	}
	return answer.Errorf(answer.Unavailable, "the app %s does not accept connections", r.id)
}

// conn counts as a use of the program until it is closed.
type conn struct {
	*net.UnixConn
	left func()
}

func (c *conn) Close() error {
	defer c.left()
	return c.UnixConn.Close()
}

// WritesTo is for [splice.Direct]: what came is written without a goroutine that waits for it.
func (c *conn) WritesTo() net.Conn { return c.UnixConn }

// ReadsFrom is for [splice.Waiter].
func (c *conn) ReadsFrom() net.Conn { return c.UnixConn }

// Start starts the program if it does not run, also after it was given up.
func (r *Runner) Start(ctx context.Context) error {
	r.mu.Lock()
	r.fails, r.until = 0, time.Time{}
	r.mu.Unlock()
	p, err := r.running(ctx)
	if err == nil {
		r.leave(p)
	}
	return err
}

// running returns the program, with one use more. The caller leaves it.
func (r *Runner) running(ctx context.Context) (*proc, error) {
	for {
		r.mu.Lock()
		p := r.proc
		if p == nil {
			p, err := r.startLocked()
			r.mu.Unlock()
			return p, err
		}
		if !p.ending {
			p.enterLocked()
			r.mu.Unlock()
			return p, nil
		}
		r.mu.Unlock()
		select {
		case <-p.done:
		case <-ctx.Done():
			return nil, answer.Errorf(answer.Timeout, "the app %s is ending", r.id)
		}
	}
}

// startLocked starts the program if it may be.
func (r *Runner) startLocked() (*proc, error) {
	switch wait := time.Until(r.until); {
	case r.closed:
		return nil, answer.Errorf(answer.Unavailable, "the app %s is stopping", r.id)
	case r.fails >= giveUp:
		return nil, answer.Errorf(answer.Unavailable, "the app %s failed %d times and is not started again: %s", r.id, r.fails, r.last)
	case wait > 0:
		return nil, answer.Errorf(answer.Unavailable, "the app %s has ended and is started again in %v: %s", r.id, wait.Round(time.Second), r.last)
	}
	p, err := r.launch()
	if err != nil {
		r.failedLocked(err.Error())
		if spec, err := r.config.Spec(); err == nil && spec.Manifest.Rights.Autostart {
			r.againLocked()
		}
		return nil, err
	}
	r.proc = p
	p.enterLocked()
	go r.follow(p) // ends with the program
	return p, nil
}

// failedLocked counts a failure and sets when the next start may be.
func (r *Runner) failedLocked(why string) {
	pause := min(firstPause<<min(r.fails, 16), lastPause)
	r.fails++
	r.last, r.ended, r.until = why, "", time.Now().Add(pause)
}

// follow waits for the end of a program and settles what comes then.
func (r *Runner) follow(p *proc) {
	how := p.wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.proc = nil
	close(p.done)
	if p.idle != nil {
		p.idle.Stop()
	}
	if p.ending {
		r.fails, r.until, r.last, r.ended = 0, time.Time{}, "", p.why
	} else {
		if time.Since(p.since) >= healthy {
			r.fails = 0
		}
		r.restarts++
		r.failedLocked(how)
		r.config.Log.Warn("app ended by itself", "app", r.id, "how", how, "failures", r.fails)
	}
	if p.autostart && !p.ending { // one that was stopped stays so
		r.againLocked()
	}
}

// againLocked has a program that runs by itself start again.
func (r *Runner) againLocked() {
	if r.closed || r.fails >= giveUp {
		return
	}
	if r.again != nil {
		r.again.Stop()
	}
	r.again = time.AfterFunc(time.Until(r.until), func() {
		if q, err := r.running(context.Background()); err == nil {
			r.leave(q)
		}
	})
}

// leave is the end of a use of a program.
func (r *Runner) leave(p *proc) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p.flows--
	if p.flows > 0 || p.autostart || r.config.Idle == 0 {
		return
	}
	p.idle = time.AfterFunc(r.config.Idle, func() { r.stopIf(p, "nobody used it", func() bool { return p.flows == 0 }) })
}

// Stop ends the program and waits. why is shown to people.
func (r *Runner) Stop(why string) {
	r.mu.Lock()
	if r.again != nil {
		r.again.Stop() // also where it only waits to be started
	}
	p := r.proc
	r.mu.Unlock()
	if p != nil {
		r.stopIf(p, why, func() bool { return true })
		<-p.done
	}
}

// Renew ends a program that would be started from something else by now, or not at all, and waits.
// Whose flows may go on is not its matter.
func (r *Runner) Renew(why string) {
	spec, err := r.config.Spec()
	r.mu.Lock()
	p := r.proc
	r.mu.Unlock()
	if p != nil && (err != nil || spec.Dir != p.from.Dir || spec.Unconfined != p.from.Unconfined) {
		r.Stop(why)
	}
}

// stopIf ends a program if a condition holds. ok runs with r.mu locked.
func (r *Runner) stopIf(p *proc, why string, ok func() bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.proc != p || p.ending || !ok() {
		return
	}
	p.ending, p.why = true, why
	go p.stop() // ends with the program
}

// Close ends the program, and no other is started.
func (r *Runner) Close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.Stop("the agent stops")
}

// Status returns what the runner does.
func (r *Runner) Status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := Status{State: Stopped, Restarts: r.restarts, Error: r.last}
	switch {
	case r.proc != nil:
		s.State, s.Since, s.PID, s.Flows, s.Confined = Running, r.proc.since, r.proc.pid, r.proc.flows, fmt.Sprint(r.proc.means)
		s.Memory = memoryOf(r.proc.pid)
	case r.fails >= giveUp:
		s.State = Failed
	case time.Now().Before(r.until):
		s.State = Waiting
	default:
		s.Ended = r.ended
	}
	return s
}
