package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"ztm/agent/api"
	"ztm/apps/appstest"
)

// In a pod of the manifests: another account, no capabilities, and a volume whose root is root's.
func TestAnAgentRunsAsNobodyInAVolumeOfRoot(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can be somebody else")
	}
	t.Run("a process of many", func(t *testing.T) { runAsNobody(t, 0) })
	// The first process of a namespace gets no signal that it has not asked for.
	t.Run("the first process", func(t *testing.T) { runAsNobody(t, syscall.CLONE_NEWPID) })
}

// runAsNobody runs an agent with an account of its own, in namespaces of its own, until SIGTERM ends it.
func runAsNobody(t *testing.T, namespaces uintptr) {
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
	cmd := command(t, bin, data, program.Name(), "run", "agent", "--drain", "1s")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user}, Cloneflags: namespaces}
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
	cmd.Process.Signal(syscall.SIGTERM)
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v\n%s", err, &log)
	}
}
