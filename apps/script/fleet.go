package script

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"

	"ztm/apps"
	"ztm/apps/process"
)

// fleet runs one script on endpoints, some at a time.
//
//	many -> worker -> run -> lines (prefix) -> stdout, stderr
//	                    \-> outcome -> table
type fleet struct {
	apps.Console
	start    start // of the script, the same everywhere
	source   []byte
	stdin    []byte // for each of them
	parallel int
	capture  bool // keep the output for the outcomes instead of showing it

	mu      sync.Mutex
	stopped bool // no more are started
	running map[chan string]struct{}
}

// outcome is the end of a script on one endpoint.
type outcome struct {
	Endpoint string     `json:"endpoint"`
	ID       string     `json:"id"`
	Status   int        `json:"status"`
	Signal   string     `json:"signal,omitempty"`
	Error    string     `json:"error,omitempty"`  // why it did not run, or did not end by itself
	Duration float64    `json:"duration"`         // milliseconds
	Stdout   apps.Bytes `json:"stdout,omitempty"` // at most maxCapture bytes
	Stderr   apps.Bytes `json:"stderr,omitempty"`
}

// maxCapture is how much of each output is kept for an outcome.
const maxCapture = 1 << 20

// one runs the script on an endpoint with the streams of this command.
func (f *fleet) one(ctx context.Context, ep apps.Endpoint, stdin io.Reader) error {
	signals := make(chan string, 2) // full: two signals are enough
	stop := process.Caught(func(name string) { offer(signals, name) })
	defer stop()
	conn, err := f.Open(ctx, ep.ID, name+"/run", nil)
	if err != nil {
		return apps.OwnerHint(err, "ztm script config --add-user USER")
	}
	exit, err := process.Drive(conn, f.start, f.source, process.Streams{
		Stdin: stdin, Stdout: f.Stdout(), Stderr: f.Stderr(), Signals: signals})
	status, text := process.Outcome(exit, err, ep.Name)
	if text != "" {
		fmt.Fprintf(f.Stderr(), "ztm: %s\n", apps.Printable(text))
	}
	if status != 0 {
		return &apps.ExitError{Status: status}
	}
	return nil
}

func offer(signals chan string, name string) {
	select {
	case signals <- name:
	default:
	}
}

// many runs the script on all endpoints and prints the results. A signal goes to all that run, and
// no more are started.
func (f *fleet) many(ctx context.Context, eps []apps.Endpoint) error {
	f.running = map[chan string]struct{}{}
	stop := process.Caught(f.signal)
	defer stop()
	var printing sync.Mutex
	width := 0
	for _, ep := range eps {
		width = max(width, len(ep.Name))
	}
	outcomes := make([]outcome, len(eps))
	next := make(chan int)
	var workers sync.WaitGroup
	for range min(f.parallel, len(eps)) {
		workers.Go(func() {
			for i := range next {
				outcomes[i] = f.run(ctx, eps[i], width, &printing)
			}
		})
	}
	for i := range eps {
		next <- i
	}
	close(next)
	workers.Wait()
	return f.conclude(outcomes)
}

func (f *fleet) signal(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stopped = true
	for signals := range f.running {
		offer(signals, name)
	}
}

// enlist returns the channel of signals for one more run; ok is false if no more are started.
func (f *fleet) enlist() (signals chan string, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	signals = make(chan string, 2)
	f.running[signals] = struct{}{}
	return signals, !f.stopped
}

func (f *fleet) delist(signals chan string) {
	f.mu.Lock()
	delete(f.running, signals)
	f.mu.Unlock()
}

// run runs the script on one endpoint.
func (f *fleet) run(ctx context.Context, ep apps.Endpoint, width int, printing *sync.Mutex) (o outcome) {
	o = outcome{Endpoint: ep.Name, ID: string(ep.ID), Status: 1}
	signals, ok := f.enlist()
	defer f.delist(signals)
	if !ok {
		o.Error = "not started"
		return o
	}
	began := time.Now()
	defer func() { o.Duration = apps.Milliseconds(time.Since(began)) }()
	conn, err := f.Open(ctx, ep.ID, name+"/run", nil)
	if err != nil && ctx.Err() != nil {
		o.Error = "interrupted"
		return o
	}
	if err != nil {
		o.Error = err.Error()
		return o
	}
	st := process.Streams{Stdin: bytes.NewReader(f.stdin), Signals: signals}
	finish := f.output(&st, ep, width, printing, &o)
	exit, err := process.Drive(conn, f.start, f.source, st)
	finish()
	o.Status, o.Error = process.Outcome(exit, err, ep.Name)
	o.Signal = exit.Signal
	return o
}

// output sets the destination of one run's output. finish is called at its end.
func (f *fleet) output(st *process.Streams, ep apps.Endpoint, width int, printing *sync.Mutex, o *outcome) (finish func()) {
	if f.capture {
		var out, errs capped
		st.Stdout, st.Stderr = &out, &errs
		return func() { o.Stdout, o.Stderr = out.bytes(), errs.bytes() }
	}
	prefix := fmt.Sprintf("%-*s | ", width, apps.Printable(ep.Name))
	out := &lines{w: f.Stdout(), prefix: prefix, mu: printing}
	errs := &lines{w: f.Stderr(), prefix: prefix, mu: printing}
	st.Stdout, st.Stderr = out, errs
	return func() {
		out.flush()
		errs.flush()
	}
}

// conclude prints a table of all endpoints, and fails if one of them failed.
func (f *fleet) conclude(outcomes []outcome) error {
	failed := false
	t := &apps.Table{Header: []string{"ENDPOINT", "STATUS", "SECONDS", "ERROR"}}
	for _, o := range outcomes {
		status := strconv.Itoa(o.Status)
		if o.Signal != "" {
			status += " (" + o.Signal + ")"
		}
		failed = failed || o.Status != 0
		t.Add(o.Endpoint, status, strconv.FormatFloat(o.Duration/1000, 'f', 1, 64), o.Error)
	}
	if err := f.Print(outcomes, t); err != nil {
		return err
	}
	if failed {
		return &apps.ExitError{Status: 1}
	}
	return nil
}
