package service

import (
	"context"
	"os"
	"os/signal"
)

// Signals returns a context that ends when this process is told to end, and what stops listening. The second signal kills. A signal
// that was ignored when the process was started stays ignored: nohup(1) does that, and a shell for jobs in the background.
//
// The hub and the agent (role is true) outlive more than a command does: the reader of their log, and a hangup unless it is that of
// the terminal in which a person started them. What they start gets the usual signals, whatever they ignore themselves.
func Signals(role bool) (ctx context.Context, stop func()) {
	end, survive := endings(role)
	if len(survive) > 0 {
		// Nobody reads it: to be notified is what keeps the signal from ending this process, and what it starts from ignoring it.
		signal.Notify(make(chan os.Signal, 1), survive...)
	}
	ctx, stop = context.Background(), func() {}
	if len(end) > 0 {
		ctx, stop = signal.NotifyContext(ctx, end...)
		context.AfterFunc(ctx, stop)
	}
	return ctx, stop
}

// IsRole reports whether a command line, without the name of the program, becomes the hub or the agent.
func IsRole(line []string) bool { return len(line) > 0 && line[0] == "run" }
