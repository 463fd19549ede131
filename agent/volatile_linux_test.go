package agent

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"ztm/agent/api"
	"ztm/agent/state"
	"ztm/apps/appstest"
	"ztm/store"
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
		t.Errorf("it does not warn: %v", &log)
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

func TestADeviceKeepsWhoItIsWhenItsFileSystemBecomesReadOnly(t *testing.T) {
	mount := t.TempDir()
	if err := syscall.Mount("tmpfs", mount, "tmpfs", 0, ""); err != nil {
		t.Skipf("cannot mount here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(mount, 0); err != nil {
			t.Error(err)
		}
	})
	config := Config{Data: filepath.Join(mount, "ztm")}
	open := func() *Agent {
		t.Helper()
		a, err := New(config)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	remount := func(flags uintptr) {
		t.Helper()
		if err := syscall.Mount("", mount, "", syscall.MS_REMOUNT|flags, ""); err != nil {
			t.Fatal(err)
		}
	}
	first := open()
	id := first.ID()
	row, _ := testRow(t, first, "bob", time.Now())
	if err := state.SaveMesh(first.db, "demo", row); err != nil {
		t.Fatal(err)
	}
	first.Close()

	remount(syscall.MS_RDONLY)
	var log appstest.Buffer
	config.Log = slog.New(slog.NewTextHandler(&log, nil))
	again := open()
	if again.ID() != id || !again.Joined("demo") {
		t.Errorf("it is %s, was %s; it has joined: %v", again.ID(), id, again.Joined("demo"))
	}
	if log.Count(slog.LevelWarn) == 0 {
		t.Error("nobody is told that changes are lost")
	}
	again.Close()

	// What is there and cannot be read is no new device.
	remount(0)
	if err := os.Truncate(filepath.Join(config.Data, "agent.db"), 0); err != nil {
		t.Fatal(err)
	}
	for _, flags := range []uintptr{0, syscall.MS_RDONLY} {
		remount(flags)
		if a, err := New(config); err == nil {
			a.Close()
			t.Errorf("a database of no bytes is a new device, with flags %d", flags)
		} else if !errors.Is(err, store.ErrDamaged) {
			t.Error(err)
		}
	}
}
