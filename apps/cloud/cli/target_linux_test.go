package cli

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// asNobody calls f as an account that owns no file.
func asNobody(t *testing.T, f func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can be somebody else")
	}
	done := make(chan error)
	go func() { // awaited below
		runtime.LockOSThread() // for ever: the thread ends with the goroutine, and the account with it
		_, err := unix.SetfsuidRetUid(65534)
		if err == nil {
			f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestAFileInADirectoryThatOneMayNotWriteToIsWrittenAsItIs(t *testing.T) {
	dir := t.TempDir()
	for name, perm := range map[string]fs.FileMode{"mine": 0o666, "not mine": 0o644} {
		if err := errors.Join(os.WriteFile(filepath.Join(dir, name), []byte("the old text"), perm), os.Chmod(filepath.Join(dir, name), perm)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Chmod(dir, 0o755), os.Chmod(filepath.Dir(dir), 0o755)); err != nil {
		t.Fatal(err)
	}
	asNobody(t, func() {
		f, err := create(filepath.Join(dir, "mine"))
		if err == nil {
			err = f.fill(strings.NewReader("new"))
		}
		if b, _ := os.ReadFile(filepath.Join(dir, "mine")); err != nil || string(b) != "new" {
			t.Errorf("it has %q, %v", b, err)
		}
		for _, name := range []string{"none", "not mine"} {
			if _, err := create(filepath.Join(dir, name)); err == nil || strings.Contains(err.Error(), ".ztm-") {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}
