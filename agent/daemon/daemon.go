// Package daemon is what the hub and the agent, as processes that stay, owe the system that started
// them: which signals end them, what becomes of orphans in a container, how Windows runs a service,
// where their environment comes from. It does not know what they do.
package daemon

import (
	"context"
	"os"
	"os/signal"
	"strings"
)

// Signals returns a context that ends when this process gets a signal to end. The second signal
// kills it. stop releases the signals. A signal that was ignored when the process started stays
// ignored: nohup(1) ignores SIGHUP, and a shell ignores SIGINT for jobs in the background of a
// script.
//
// The hub and the agent (role is true) survive SIGPIPE, which they get when the reader of their log
// has gone. They survive SIGHUP unless they were started in a terminal, which has been closed then.
// The programs that they start get the default dispositions.
func Signals(role bool) (ctx context.Context, stop func()) {
	end, survive := endings(role)
	if len(survive) > 0 {
		// The channel is never read. A signal that is notified does not end this process, and is
		// not ignored by its children.
		signal.Notify(make(chan os.Signal, 1), survive...)
	}
	ctx, stop = context.Background(), func() {}
	if len(end) > 0 {
		ctx, stop = signal.NotifyContext(ctx, end...)
		context.AfterFunc(ctx, stop)
	}
	return ctx, stop
}

// IsRole reports whether a command line, without the name of the program, runs the hub or the
// agent. The options before the command have values: "--data DIR", "--data=DIR", "-d DIR", "-dDIR".
func IsRole(line []string) bool {
	for len(line) > 0 && strings.HasPrefix(line[0], "-") {
		apart := len(line[0]) == 2 || strings.HasPrefix(line[0], "--") && !strings.Contains(line[0], "=")
		if line = line[1:]; apart && len(line) > 0 {
			line = line[1:]
		}
	}
	return len(line) > 0 && line[0] == "run"
}
