package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"syscall"
	"testing"

	"ztm/agent/api"
	"ztm/apps/appstest"
)

// readOnly runs its arguments as another account, where nothing can be written but in the volume
// that its first argument names.
const readOnly = `set -e
mount --bind "$0" "$0"
mount -o remount,bind,ro /
exec setpriv --reuid=65532 --regid=65532 --clear-groups --bounding-set=-all "$@"`

// In a pod of the manifests: another account, no capabilities, a root that is read only, and a volume
// whose root is root's.
func TestAnAgentRunsAsNobodyInAVolumeOfRoot(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can be somebody else")
	}
	t.Run("a process of many", func(t *testing.T) { runAsNobody(t, 0) })
	t.Run("a root that is read only", func(t *testing.T) {
		if err := exec.Command("unshare", "--mount", "sh", "-c", readOnly, os.TempDir(), "true").Run(); err != nil {
			t.Skipf("nothing is mounted here: %v", err)
		}
		runAsNobody(t, 0, "unshare", "--mount", "sh", "-c", readOnly)
	})
	// The first process of a namespace gets no signal that it has not asked for.
	t.Run("the first process", func(t *testing.T) { runAsNobody(t, syscall.CLONE_NEWPID) })
}

// runAsNobody runs an agent with an account of its own, in namespaces of its own, until SIGTERM ends
// it. What is through takes the volume and the command line, and the account is its to change.
func runAsNobody(t *testing.T, namespaces uintptr, through ...string) {
	t.Helper()
	const user = 65532
	bin, volume := t.TempDir(), t.TempDir()
	for dir := bin; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(volume, 0, user); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(volume, 0o777|os.ModeSetgid); err != nil {
		t.Fatal(err)
	}
	exe, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer exe.Close()
	program, err := os.OpenFile(filepath.Join(bin, "ztm"), os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(program, exe); err != nil {
		t.Fatal(err)
	}
	if err := program.Close(); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(volume, "data")
	line := []string{program.Name(), "run", "agent", "--drain", "1s"}
	if len(through) > 0 {
		line = slices.Concat(through, []string{volume}, line)
	}
	cmd := command(t, bin, data, line[0], line[1:]...)
	if len(through) == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user}, Cloneflags: namespaces}
	}
	var log appstest.Buffer
	cmd.Stderr, cmd.Dir = &log, "/"
	if err := cmd.Start(); namespaces != 0 && errors.Is(err, syscall.EPERM) {
		t.Skip("this machine makes no namespaces for anybody")
	} else if err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	appstest.Eventually(t, "it answers", func() bool {
		c, _, err := api.Dial(t.Context(), data)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	if fi, err := os.Stat(data); err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", fi, err)
	}
	if len(through) > 0 {
		mounts, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", cmd.Process.Pid))
		if err != nil || !regexp.MustCompile(`(?m)^\S+ \S+ \S+ \S+ / ro[, ]`).Match(mounts) {
			t.Errorf("the root can be written: %v\n%s", err, mounts)
		}
	}
	cmd.Process.Signal(syscall.SIGTERM)
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v\n%s", err, &log)
	}
}
