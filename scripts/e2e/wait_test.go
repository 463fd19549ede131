//go:build linux

package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"ztm/tunnel/freeport"
)

// timeout is how long a test waits for what must happen, on a machine that has much else to do.
const timeout = 90 * time.Second

// await looks until ok says yes, and fails the test if that takes longer than timeout.
func await(t testing.TB, what string, ok func() bool) time.Duration {
	t.Helper()
	return awaitWithin(t, timeout, what, ok)
}

// awaitWithin is await with a time of one's own. It returns how long it took.
func awaitWithin(t testing.TB, limit time.Duration, what string, ok func() bool) time.Duration {
	t.Helper()
	start := time.Now()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for !ok() {
		if time.Since(start) > limit {
			t.Fatalf("waited %v in vain: %s", limit, what)
		}
		<-ticker.C
	}
	return time.Since(start)
}

// steady looks until value has not changed for a while, and returns it.
func steady[T comparable](t testing.TB, still time.Duration, what string, value func() T) T {
	t.Helper()
	last, since := value(), time.Now()
	await(t, what+" comes to rest", func() bool {
		if v := value(); v != last {
			last, since = v, time.Now()
		}
		return time.Since(since) >= still
	})
	return last
}

// throughout looks at ok until limit has passed, and fails the test if it ever says no.
func throughout(t testing.TB, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	for end := time.Now().Add(limit); time.Now().Before(end); <-ticker.C {
		if !ok() {
			t.Fatalf("did not hold for %v: %s", limit, what)
		}
	}
}

// freePort returns a port that nobody listens on. Nobody else gets it before the test ends.
func freePort(t testing.TB) int {
	t.Helper()
	port, release, err := freeport.Lease(1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	return port
}

// loopback is the address of a port on this machine.
func loopback(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }

func listens(address string) bool {
	c, err := net.DialTimeout("tcp", address, time.Second)
	if err != nil {
		return false
	}
	return c.Close() == nil
}

// missing skips a test that cannot run here. Where all is installed that there is to install, it fails the test instead.
func missing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatal(what)
	}
	t.Skip("SKIPPED: " + what)
}

// program finds a program, also where only root looks for one.
func program(t testing.TB, name, debian string) string {
	t.Helper()
	dirs := append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/sbin")
	versions, _ := filepath.Glob("/usr/lib/postgresql/*/bin") // only a malformed pattern is an error
	for _, dir := range append(dirs, versions...) {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path
		}
	}
	missing(t, fmt.Sprintf("there is no %s: install the Debian package %s", name, debian))
	return ""
}
