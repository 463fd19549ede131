package appstest

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// Run runs the tests of a package and returns its exit status, which is a failure, too, when
// goroutines that run the project's code are left at the end. It is meant for TestMain:
// os.Exit(appstest.Run(m)).
func Run(m *testing.M) int {
	if status := m.Run(); status != 0 {
		return status
	}
	late := time.After(Timeout)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		left := leaked()
		if len(left) == 0 {
			return 0
		}
		select {
		case <-late:
			fmt.Fprintf(os.Stderr, "goroutines left after the tests:\n\n%s\n", strings.Join(left, "\n\n"))
			return 1
		case <-tick.C:
		}
	}
}

// leaked returns the stacks of all other goroutines with a frame in this module.
func leaked() []string {
	buf := make([]byte, 4<<20)
	buf = buf[:runtime.Stack(buf, true)]
	var left []string
	for i, g := range strings.Split(string(buf), "\n\n") {
		if i > 0 && strings.Contains(g, "\nztm/") { // the first one runs this function
			left = append(left, g)
		}
	}
	return left
}
