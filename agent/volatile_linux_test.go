package agent

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"ztm/agent/api"
	"ztm/apps/appstest"
)

// readOnly mounts an empty file system that cannot be written.
func readOnly(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_RDONLY, ""); err != nil {
		t.Skipf("cannot mount here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func TestAnAgentRunsOnAReadOnlyRootAndSaysWhatThatCosts(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	dir := filepath.Join(readOnly(t), "etc", "ztm")
	var log appstest.Buffer
	a, err := New(Config{Data: dir, Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	if log.Count(slog.LevelWarn) == 0 {
		t.Errorf("it does not warn: %s", log.String())
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }() // ends with ctx; awaited below
	if _, err := os.Stat(filepath.Dir(filepath.Dir(api.Location(dir)))); err != nil {
		t.Errorf("the socket cannot be at %s: %v", api.Location(dir), err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
