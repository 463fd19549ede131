package hub

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"ztm/hub/state"
)

func TestAHubOnAReadOnlyRootSaysWhatToDo(t *testing.T) {
	root := t.TempDir()
	if err := syscall.Mount("tmpfs", root, "tmpfs", 0, ""); err != nil {
		t.Skipf("cannot mount here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(root, 0); err != nil {
			t.Error(err)
		}
	})
	old := filepath.Join(root, "old")
	first := runHub(t, "--data", old, "--listen", "127.0.0.1:0", "--names", "hub.test:1")
	first.address()
	if status := first.end(os.Interrupt); status != 0 {
		t.Fatalf("status %d", status)
	}
	if err := os.Mkdir(filepath.Join(root, "empty"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("", root, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ dir, names string }{
		{"old", filepath.Join(old, "hub.db")}, {"empty", filepath.Join(root, "empty", "hub.db")}, {"new/below", filepath.Join(root, "new")},
	} {
		t.Run(tt.dir, func(t *testing.T) {
			p := runHub(t, "--data", filepath.Join(root, tt.dir), "--listen", "127.0.0.1:0", "--names", "hub.test:1")
			p.cmd.Wait()
			if status := p.cmd.ProcessState.ExitCode(); status != 1 {
				t.Errorf("status %d", status)
			}
			for _, want := range []string{tt.names, "read-only file system", "--data"} {
				if !strings.Contains(p.out.String(), want) {
					t.Errorf("no %q in: %s", want, p.out)
				}
			}
		})
	}
}

func TestOnlyErrorsOfTheDataDirectorySpeakOfIt(t *testing.T) {
	for _, tt := range []struct {
		name string
		err  error
		want bool
	}{
		{"read-only", &fs.PathError{Op: "open", Path: "/data/hub.db", Err: syscall.EROFS}, true},
		{"another account's", &fs.PathError{Op: "open", Path: "/data/hub.db", Err: syscall.EACCES}, true},
		{"cannot be made", &fs.PathError{Op: "mkdir", Path: "/", Err: syscall.EROFS}, true},
		{"full", &fs.PathError{Op: "write", Path: "/data/hub.db", Err: syscall.ENOSPC}, false},
		{"of the permit", &fs.PathError{Op: "open", Path: "/home/root.json", Err: syscall.EACCES}, false},
		{"of a port", os.NewSyscallError("bind", syscall.EACCES), false},
		{"none", nil, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := state.NeedsPlace("/data", tt.err)
			if !errors.Is(got, tt.err) {
				t.Errorf("%v has become %v", tt.err, got)
			}
			if has := got != nil && strings.Contains(got.Error(), "--data"); has != tt.want {
				t.Errorf("got %v", got)
			}
		})
	}
}
