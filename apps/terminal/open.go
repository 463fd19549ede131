package terminal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"sync"

	"ztm/apps"
	"ztm/apps/process"
)

// opener opens a session from this window.
type opener struct {
	apps.Console
	window *window // nil if stdin or stdout is no terminal
	escape byte    // 0 for none
	tty    bool    // the session has a terminal
}

// newOpener finds out whether the command runs in a window.
func newOpener(c apps.Console) *opener {
	o := &opener{Console: c}
	in, ok1 := c.Stdin().(*os.File)
	out, ok2 := c.Stdout().(*os.File)
	if ok1 && ok2 && isWindow(in) && isWindow(out) {
		o.window = &window{in, out}
	}
	return o
}

func (o *opener) size() *process.Size {
	if !o.tty {
		return nil
	}
	var s process.Size
	if o.window != nil {
		s = o.window.size()
	}
	return &s
}

// open starts a program at an endpoint and stays with it to its end.
func (o *opener) open(ctx context.Context, ep apps.Endpoint, st start) error {
	conn, err := o.Open(ctx, ep.ID, name+"/shell", nil)
	if err != nil {
		return apps.OwnerHint(err, "ztm terminal config --add-user USER")
	}
	st.TTY = o.size()
	return o.drive(ep, conn, st, st.Keep)
}

// attach returns to a session that was kept; id may be empty if there is only one.
func (o *opener) attach(ctx context.Context, ep apps.Endpoint, id string) error {
	conn, err := o.Open(ctx, ep.ID, name+"/attach", url.Values{"id": {id}})
	if err != nil {
		return err
	}
	o.tty = true
	return o.drive(ep, conn, nil, true)
}

// drive moves the streams of the session until it ends, and returns the result of this command.
func (o *opener) drive(ep apps.Endpoint, conn net.Conn, begin any, kept bool) error {
	var restore func()
	id := ""
	st := process.Streams{Stdin: o.Stdin(), Stdout: o.Stdout(), Stderr: o.Stderr(),
		Started: func(s process.Started) { id = s.Session }}
	if o.tty && o.window != nil {
		var err error
		if restore, err = o.enter(conn, &st, begin == nil); err != nil {
			conn.Close()
			return fmt.Errorf("terminal: %w", err)
		}
	} else {
		restore = forward(&st)
	}
	defer restore()
	exit, err := process.Drive(conn, begin, nil, st)
	restore()
	return o.conclude(ep, exit, err, id, kept)
}

// enter connects the window to the session until restore is called. restore may be called again.
func (o *opener) enter(conn net.Conn, st *process.Streams, attach bool) (restore func(), err error) {
	cooked, err := o.window.raw()
	if err != nil {
		return nil, err
	}
	sizes := make(chan process.Size, 1)
	tell := func() {
		select {
		case <-sizes: // drops an older size
		default:
		}
		sizes <- o.window.size() // only one goroutine tells at a time
	}
	if attach {
		tell()
	}
	stop := o.window.resized(tell)
	stay := process.Caught(func(string) { conn.Close() }) // the window must be restored first
	st.Sizes = sizes
	st.Stdin = &escape{r: o.Stdin(), char: o.escape, help: func() {
		fmt.Fprintf(o.Stderr(), escapeHelp, o.escape, o.escape, o.escape, o.escape)
	}}
	return sync.OnceFunc(func() {
		stay()
		stop()
		cooked()
	}), nil
}

// forward passes the signals of this command to the program until stop is called. stop may be
// called again.
func forward(st *process.Streams) (stop func()) {
	signals := make(chan string)
	ended := make(chan struct{})
	st.Signals = signals
	stay := process.Caught(func(name string) {
		select {
		case signals <- name:
		case <-ended:
		}
	})
	return sync.OnceFunc(func() {
		close(ended)
		stay()
	})
}

// until runs f in a goroutine. stop ends it and waits for it.
func until(f func(ended <-chan struct{})) (stop func()) {
	ended := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() { f(ended) })
	return func() {
		close(ended)
		running.Wait()
	}
}

// conclude reports how the session ended, and returns the result of this command.
func (o *opener) conclude(ep apps.Endpoint, exit process.Exit, err error, id string, kept bool) error {
	back := ""
	if kept && id != "" {
		back = fmt.Sprintf("; return to it with: ztm terminal attach %s %s", ep.Name, id)
	}
	if errors.Is(err, errLeft) {
		o.say("left %s%s", ep.Name, back)
		if kept {
			return nil
		}
		return &apps.ExitError{Status: process.StatusLost}
	}
	status, text := process.Outcome(exit, err, ep.Name)
	if errors.Is(err, process.ErrLost) {
		text += back
	}
	if text != "" {
		o.say("%s", text)
	}
	if status != 0 {
		return &apps.ExitError{Status: status}
	}
	return nil
}

// say tells a person. In a window the session has left the cursor anywhere.
func (o *opener) say(format string, args ...any) {
	before := "ztm: "
	if o.tty && o.window != nil {
		before = "\r\n" + before
	}
	fmt.Fprint(o.Stderr(), before+apps.Printable(fmt.Sprintf(format, args...))+"\n")
}

// maxList is the longest list of sessions, in bytes.
const maxList = 1 << 20

// sessions returns the sessions of an endpoint that may be returned to or ended.
func sessions(ctx context.Context, c apps.Console, ep apps.Endpoint) ([]process.Info, error) {
	conn, err := c.Open(ctx, ep.ID, name+"/sessions", nil)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	var list []process.Info
	if err := json.NewDecoder(io.LimitReader(conn, maxList)).Decode(&list); err != nil {
		return nil, fmt.Errorf("list of sessions: %v", err)
	}
	return list, nil
}

// end ends a session.
func end(ctx context.Context, c apps.Console, ep apps.Endpoint, id string) error {
	conn, err := c.Open(ctx, ep.ID, name+"/end", url.Values{"id": {id}})
	if err != nil {
		return err
	}
	return conn.Close()
}
