package mirror

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"ztm/apps/appstest"
	"ztm/apps/rooted/rootedtest"
)

func TestAChangeIsToldOf(t *testing.T) {
	d, dir := rootedtest.Dir(t)
	put(t, filepath.Join(dir, "a/b/f"), "x")
	put(t, filepath.Join(dir, "out/f"), "x")
	told := func(w *Watcher) bool {
		select {
		case <-w.C:
			return true
		case <-time.After(appstest.Timeout):
			return false
		}
	}
	for name, change := range map[string]func() error{
		"written":        func() error { return os.WriteFile(filepath.Join(dir, "a/b/f"), []byte("y"), 0o600) },
		"made":           func() error { return os.WriteFile(filepath.Join(dir, "a/new"), nil, 0o600) },
		"renamed":        func() error { return os.Rename(filepath.Join(dir, "a/b/f"), filepath.Join(dir, "a/b/g")) },
		"a directory":    func() error { return os.Mkdir(filepath.Join(dir, "dir"), 0o700) },
		"the mode":       func() error { return os.Chmod(filepath.Join(dir, "a/b"), 0o700) },
		"removed at top": func() error { return os.RemoveAll(filepath.Join(dir, "dir")) },
	} {
		ctx, cancel := context.WithCancel(t.Context())
		w, err := Watch(ctx, d, Patterns{"out"})
		if err != nil {
			t.Fatal(err)
		}
		if name == "removed at top" {
			os.Mkdir(filepath.Join(dir, "dir"), 0o700)
		}
		if err := change(); err != nil && name != "renamed" {
			t.Fatal(name, err)
		}
		if !told(w) {
			t.Errorf("%s: nothing was told", name)
		}
		cancel()
		w.Close()
	}
	w, err := Watch(t.Context(), d, Patterns{"out"})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	put(t, filepath.Join(dir, "out/f"), "y")
	put(t, filepath.Join(dir, "z"), "y")
	if !told(w) {
		t.Error("nothing was told at last")
	}
}
