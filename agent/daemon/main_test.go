package daemon

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"ztm/apps/appstest"
)

func TestARoleIsRecognisedByItsCommand(t *testing.T) {
	for line, want := range map[string]bool{
		"run agent": true, "--data /x run hub": true, "--data=/x run hub": true, "-d /x run hub": true, "-d/x -o json run hub": true,
		"": false, "get ep": false, "--data run": false, "-d run hub": false, "script run": false, "terminal open ep -- run": false,
	} {
		if got := IsRole(strings.Fields(line)); got != want {
			t.Errorf("%q: %v, want %v", line, got, want)
		}
	}
}

// asRole makes the test binary a role whose work is one command.
const asRole = "ZTM_TEST_AS_ROLE"

func TestMain(m *testing.M) {
	words := strings.Fields(os.Getenv(asRole))
	if len(words) == 0 {
		os.Exit(appstest.Run(m))
	}
	ctx, stop := Signals(true)
	defer stop()
	os.Exit(Main(ctx, []string{"run"}, os.Stderr, func(ctx context.Context, stderr io.Writer) int {
		cmd := exec.CommandContext(ctx, words[0], words[1:]...)
		cmd.Stdout, cmd.Stderr = os.Stdout, stderr
		if err := cmd.Run(); err != nil {
			fmt.Fprintln(stderr, err)
			return 1
		}
		return 0
	}))
}
