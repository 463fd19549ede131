package run

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ztm/apps/appstest"
)

// TestAKilledAgentLeavesNoProcess kills an agent, which is the test binary once more.
func TestAKilledAgentLeavesNoProcess(t *testing.T) {
	if os.Getenv(asAgent) != "" {
		f := newRunner(t, "family", nil)
		f.echoes(t)
		fmt.Printf("pid %d\n", f.Status().PID)
		unix.Pause()
	}
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^TestAKilledAgentLeavesNoProcess$")
	cmd.Env = append(os.Environ(), asAgent+"=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := 0
	for lines := bufio.NewScanner(out); pid == 0; {
		if !lines.Scan() {
			t.Fatal("the agent did not start its app")
		}
		fmt.Sscanf(lines.Text(), "pid %d", &pid)
	}
	if n := count(pid); n != 2 {
		t.Errorf("the app has %d processes", n)
	}
	cmd.Process.Kill()
	cmd.Wait()
	appstest.Eventually(t, "nothing runs", func() bool { return count(pid) == 0 })
}

// TestWhatAKilledAgentLeftIsRemovedAndNothingOfOneThatLives: a socket whose agent was killed is still
// there, and refuses connections.
func TestWhatAKilledAgentLeftIsRemovedAndNothingOfOneThatLives(t *testing.T) {
	tmp, err := os.MkdirTemp("/tmp", "ztm-sweep-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(tmp) })
	t.Setenv("TMPDIR", tmp)
	for _, name := range []string{"killed", "killed-early", "lives", "starts", "elsewhere"} {
		dir := filepath.Join(tmp, socketsPrefix+name)
		if name == "elsewhere" {
			if err := os.Symlink(filepath.Join(tmp, socketsPrefix+"killed"), dir); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.MkdirAll(filepath.Join(dir, "api"), 0o755); err != nil {
			t.Fatal(err)
		}
		if name == "killed" || name == "lives" {
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: apiSocket(dir), Net: "unix"})
			if err != nil {
				t.Fatal(err)
			}
			l.SetUnlinkOnClose(false)
			defer l.Close()
			if name == "killed" {
				l.Close()
			}
		}
		if old := time.Now().Add(-2 * settled); name != "starts" {
			if err := os.Chtimes(dir, old, old); err != nil {
				t.Fatal(err)
			}
		}
	}
	Sweep()
	var left []string
	list, err := os.ReadDir(tmp)
	for _, one := range list {
		left = append(left, strings.TrimPrefix(one.Name(), socketsPrefix))
	}
	if want := []string{"elsewhere", "lives", "starts"}; err != nil || !slices.Equal(left, want) {
		t.Errorf("left are %q, %v; want %q", left, err, want)
	}
}
