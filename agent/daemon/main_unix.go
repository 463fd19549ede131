//go:build unix && !linux

package daemon

import (
	"context"
	"io"
)

// Main runs the program. The second argument is the command line without the program's name.
func Main(ctx context.Context, _ []string, stderr io.Writer, run func(context.Context, io.Writer) int) int {
	return run(ctx, stderr)
}
