//go:build unix

package private

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestADirectoryIsMadePrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	for range 2 {
		if err := Dir(dir); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
			t.Fatalf("mode %v, %v", info.Mode(), err)
		}
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWhatAnotherUserOwnsIsRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to give something away")
	}
	dir := t.TempDir()
	if err := errors.Join(os.Chmod(dir, 0o755), os.Chown(dir, 12345, 12345)); err != nil {
		t.Fatal(err)
	}
	if err := Dir(dir); !errors.Is(err, ErrOwner) {
		t.Errorf("got %v", err)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("it was changed: %v, %v", info.Mode(), err)
	}
}
