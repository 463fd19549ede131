package hub

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/urfave/cli/v2"

	"ztm/apps/appstest"
)

// TestMain makes the test binary a hub where it is called ztm-hub, so that tests have one as a
// process.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "ztm-hub" {
		os.Exit(hubMain())
	}
	os.Exit(appstest.Run(m))
}

func hubMain() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	app := &cli.App{Commands: []*cli.Command{Command("test", wrongUsage)}, ExitErrHandler: func(*cli.Context, error) {}}
	if err := app.RunContext(ctx, append([]string{"ztm", "hub"}, os.Args[1:]...)); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		if errors.As(err, new(usageError)) {
			return 2
		}
		return 1
	}
	return 0
}

type usageError struct{ error }

func wrongUsage(err error) error { return usageError{err} }
