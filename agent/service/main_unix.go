//go:build unix && !linux

package service

import (
	"context"
	"io"
)

// Main runs the program: the command line is without its name. Where the system has started it as a service, or as the first process
// of a container, it does what the system expects of that.
func Main(ctx context.Context, _ []string, stderr io.Writer, run func(context.Context, io.Writer) int) int {
	return run(ctx, stderr)
}
