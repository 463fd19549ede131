package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	programs "ztm/apps/external/run"
)

// needsApps skips a test where apps of others cannot be held, or what they are written in is not
// there.
func needsApps(t testing.TB, interpreter string) {
	t.Helper()
	if _, err := exec.LookPath(interpreter); err != nil {
		t.Skip(err)
	}
	if _, err := programs.NewGroup("test").Means(); err != nil {
		t.Skip(err)
	}
}

func TestAnAppIsPublishedInstalledByAnotherUserAndUsedByAThird(t *testing.T) {
	needsApps(t, "python3")
	w := newWorld(t)
	w.cloudAt("root", "root")
	w.cloudAt("bob", "bob")
	w.join("carol", "carol")
	dir := w.path("hello")
	w.ztm("root", "app", "init", dir)
	w.ztm("root", "app", "publish", dir, "--share", "bob")
	w.until("bob finds the app", func() error {
		if _, errs, status := w.try("bob", "app", "install", "--yes", "root/hello"); status != 0 {
			return errors.New(errs)
		}
		return nil
	})
	if got := w.ztm("bob", "app", "call", "hello"); got != "Hello bob, this is hello.\n" {
		t.Errorf("bob is answered %q", got)
	}
	if shown := w.ztm("bob", "describe", "app", "hello"); !strings.Contains(shown, "ep-root ("+string(w.endpoint("ep-root").ID)+") of root") {
		t.Errorf("who signed is not shown:\n%s", shown)
	}
	if list := w.ztm("root", "ep", "ep-root", "get", "app"); !strings.Contains(list, "tunnel") || strings.Count(list, "built in") < 3 {
		t.Errorf("the apps of ztm are not listed:\n%s", list)
	}
	if shown := w.ztm("root", "describe", "app", "tunnel"); !strings.Contains(shown, "built in") {
		t.Errorf("the app tunnel is described as\n%s", shown)
	}
	ask := []string{"ep", "ep-bob", "app", "call", "root/hello"}
	if _, _, status := w.try("carol", ask...); status == 0 {
		t.Error("before the grant carol was answered")
	}
	w.ztm("bob", "app", "grant", "hello", "carol")
	if got := w.ztm("carol", ask...); got != "Hello carol, this is hello.\n" {
		t.Errorf("carol is answered %q", got)
	}
	w.ztm("bob", "app", "revoke", "hello", "carol")
	if _, _, status := w.try("carol", ask...); status == 0 {
		t.Error("after the grant was taken back carol was answered")
	}
	w.upgraded(dir)
	w.ztm("bob", "app", "rollback", "hello")
	if got := w.ztm("bob", "app", "call", "hello"); got != "Hello bob, this is hello.\n" {
		t.Errorf("after the rollback bob is answered %q", got)
	}
}

// upgraded publishes another version of the app hello, and has bob upgrade to it.
func (w *world) upgraded(dir string) {
	w.t.Helper()
	file := filepath.Join(dir, "main.py")
	text, err := os.ReadFile(file)
	if err == nil {
		err = os.WriteFile(file, []byte(strings.Replace(string(text), "Hello", "Welcome", 1)), 0o755)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	w.ztm("root", "app", "publish", dir, "--share", "bob")
	w.until("bob has the second version", func() error {
		if _, errs, status := w.try("bob", "app", "upgrade", "hello"); status != 0 {
			return errors.New(errs)
		}
		if got := w.ztm("bob", "app", "call", "hello"); got != "Welcome bob, this is hello.\n" {
			return errors.New(got)
		}
		return nil
	})
}
