//go:build linux

package e2e

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// Builds of the binary under test, made on first use.
var (
	workspace string // removed when all tests have run

	plain = sync.OnceValues(func() (string, error) { return build("ztm", "CGO_ENABLED=0") })

	// small is what devices with little flash get.
	small = sync.OnceValues(func() (string, error) { return build("ztm-small", "CGO_ENABLED=0", "-tags", "ztm_router") })

	// racing is built with the race detector, which needs a C compiler. A race shows in the log of the process, where
	// [process.examine] looks for it.
	racing = sync.OnceValues(func() (string, error) {
		if _, err := exec.LookPath("gcc"); err != nil {
			fmt.Println("e2e: no gcc: the tests of failures run without the race detector")
			return plain()
		}
		return build("ztm-race", "CGO_ENABLED=1", "-race")
	})
)

func TestMain(m *testing.M) {
	flag.Parse()
	if testing.Short() {
		fmt.Println("e2e: nothing is tested with -short")
		return
	}
	os.Exit(run(m))
}

// run is TestMain with deferred calls.
func run(m *testing.M) int {
	// Most tests wait for something more than they compute: more of them than there are processors go at a time.
	if !given("test.parallel") {
		flag.Set("test.parallel", "6")
	}
	var err error
	// Paths of sockets are limited to 107 bytes: not below the test's name.
	if workspace, err = os.MkdirTemp("", "ztm-e2e-"); err != nil {
		fmt.Println("e2e:", err)
		return 1
	}
	defer os.RemoveAll(workspace)
	if err := os.Chmod(workspace, 0o755); err != nil { // the database server is another user
		fmt.Println("e2e:", err)
		return 1
	}
	if _, err := plain(); err != nil {
		fmt.Println("e2e:", err)
		return 1
	}
	return m.Run()
}

// given reports whether a flag was set on the command line.
func given(name string) (set bool) {
	flag.Visit(func(f *flag.Flag) { set = set || f.Name == name })
	return set
}

// build builds the command of this module and returns its path.
func build(name, env string, args ...string) (string, error) {
	start := time.Now()
	path := filepath.Join(workspace, name)
	cmd := exec.Command("go", append(append([]string{"build"}, args...), "-o", path, "ztm")...)
	cmd.Env = append(os.Environ(), env)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%v: %v\n%s", cmd, err, out)
	}
	fmt.Printf("e2e: built %s in %v\n", name, time.Since(start).Round(100*time.Millisecond))
	return path, nil
}
