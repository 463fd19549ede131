package run

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ztm/apps/appstest"
	"ztm/apps/external/manifest"
)

func TestAnAppThatFillsItsDirectoryIsEndedAndNotStartedBeforeThereIsRoom(t *testing.T) {
	f := newRunner(t, "litter", func(s *Spec, _ *Config) { s.Manifest.Rights.DiskFiles = 1000 })
	f.group.every = 10 * time.Millisecond
	if err := f.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	appstest.Eventually(t, "it ends", func() bool { s := f.Status(); return s.PID == 0 && strings.Contains(s.Error, "more than 1000 files") })
	if err := f.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "more than 1000 files") {
		t.Errorf("it is started again: %v", err)
	}
	if err := os.RemoveAll(f.spec.Data); err != nil {
		t.Fatal(err)
	}
	if err := f.Start(t.Context()); err != nil {
		t.Errorf("with room again: %v", err)
	}
}

// withoutRoom is an app that runs by itself, and was not started as it has more files than it may.
func withoutRoom(t *testing.T) fixture {
	t.Helper()
	f := newRunner(t, "echo", func(s *Spec, _ *Config) { s.Manifest.Rights.Autostart, s.Manifest.Rights.DiskFiles = true, 1 })
	err := errors.Join(os.Mkdir(f.spec.Data, 0o700), os.WriteFile(filepath.Join(f.spec.Data, "a"), nil, 0o600), os.WriteFile(filepath.Join(f.spec.Data, "b"), nil, 0o600))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Start(t.Context()); err == nil {
		t.Fatal("it was started without room")
	}
	return f
}

func TestAnAppThatRunsByItselfIsStartedAsSoonAsItCanBe(t *testing.T) {
	f := withoutRoom(t)
	if err := os.RemoveAll(f.spec.Data); err != nil {
		t.Fatal(err)
	}
	appstest.Eventually(t, "it runs", func() bool { return f.Status().State == Running })
}

func TestAnAppThatIsStoppedWhileItWaitsIsNotStartedByItself(t *testing.T) {
	f := withoutRoom(t)
	f.Stop("its owner stopped it")
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.again == nil || f.again.Stop() {
		t.Error("it is to be started again")
	}
}

func TestAllThatAnAppHasWrittenIsCounted(t *testing.T) {
	dir := t.TempDir()
	if over := exceeds(filepath.Join(dir, "none"), nameless{}, manifest.Rights{}); over != "" {
		t.Errorf("of a directory that is not there: %s", over)
	}
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if over := exceeds(filepath.Join(plain, "data"), nameless{}, manifest.Rights{}); !strings.Contains(over, "cannot be counted") {
		t.Errorf("of a directory that cannot be read: %q", over)
	}
	if err := os.Remove(plain); err != nil {
		t.Fatal(err)
	}
	deep := filepath.Join(dir, "a", "b")
	if err := errors.Join(os.MkdirAll(deep, 0o700), os.WriteFile(filepath.Join(deep, "c"), make([]byte, 3<<20), 0o600), os.Symlink("/", filepath.Join(dir, "all"))); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		rights manifest.Rights
		over   bool
	}{{manifest.Rights{}, false}, {manifest.Rights{DiskFiles: 5}, false}, {manifest.Rights{DiskFiles: 4}, true}, {manifest.Rights{Disk: 2 << 20}, true}, {manifest.Rights{Disk: 5 << 20}, false}} {
		if over := exceeds(dir, nameless{}, tt.rights); (over != "") != tt.over {
			t.Errorf("%+v: %q", tt.rights, over)
		}
	}
}

func TestWhatAnAppHoldsOpenWithoutANameIsCounted(t *testing.T) {
	f := newRunner(t, "unlinked", func(s *Spec, _ *Config) { s.Manifest.Rights.Disk = 4 << 20 })
	f.group.every = 10 * time.Millisecond
	if err := f.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	appstest.Eventually(t, "it ends", func() bool { s := f.Status(); return s.PID == 0 && strings.Contains(s.Error, "more than 4 MB") })
}

func TestAFileInMemoryCountsAsMemory(t *testing.T) {
	f := newRunner(t, "memfd", nil)
	if err := f.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	p := &proc{pid: f.Status().PID, from: f.spec}
	appstest.Eventually(t, "it is too large", func() bool {
		return strings.Contains(p.written(manifest.Rights{Memory: 1 << 20}), "larger than 4 MB") && p.written(manifest.Rights{Memory: 8 << 20}) == ""
	})
}

func TestProcessesAndMemoryOfAllTogetherAreLimited(t *testing.T) {
	f := newRunner(t, "family", nil)
	f.group.every = 10 * time.Millisecond
	if err := f.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	pid := f.Status().PID
	appstest.Eventually(t, "it has two processes", func() bool { return count(pid) == 2 })
	for want, rights := range map[string]manifest.Rights{"it had 2 processes": {Processes: 1}, "more than 4 MB together": {Memory: 1e6}} {
		ctx, cancel := context.WithTimeout(t.Context(), appstest.Timeout)
		defer cancel()
		from := f.spec
		from.Manifest.Rights = rights
		if why := f.tooMuch(ctx, &proc{pid: pid, from: from}); !strings.Contains(why, want) {
			t.Errorf("%+v: %q", rights, why)
		}
	}
}

func TestAnAppCannotHideWhatItHasOpen(t *testing.T) {
	f := newRunner(t, "hide", nil)
	if err := f.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.echoes(t) // it ends where it may hide
}
