//go:build !windows

package service

import (
	"context"
	"io"
)

// Main runs the program. Where Windows has started it as a service, it tells Windows how that goes, ends ctx when the service is
// to stop, and writes to a log file what the program says.
func Main(ctx context.Context, _ []string, stderr io.Writer, run func(context.Context, io.Writer) int) int {
	return run(ctx, stderr)
}
