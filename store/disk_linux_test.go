package store

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// mount mounts a file system in RAM and unmounts it at the end of the test.
func mount(t *testing.T, options string) (dir string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	dir = t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		t.Skip("cannot mount a tmpfs here:", err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

func TestFullDiskLeavesTheStateBefore(t *testing.T) {
	forKinds(t, func(t *testing.T, open func(string, ...Migration) (*DB, error)) {
		path := filepath.Join(mount(t, "size=256k"), "agent.db")
		db := must(t)(open(path))
		bob := user{Name: "Bob"}
		put(t, db, "bob", bob)
		for range 3 {
			err := db.Update(func(tx *Tx) error {
				return errors.Join(users.Delete(tx, "bob"), users.Put(tx, "big", user{Name: strings.Repeat("x", 300<<10)}))
			})
			if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), path) {
				t.Errorf("Update returned %v", err)
			}
			if diff := cmp.Diff(map[string]user{"bob": bob}, content(t, db)); diff != "" {
				t.Errorf("readers see (-want +got):\n%s", diff)
			}
		}
		put(t, db, "eve", user{}) // a small one still fits
		db.Close()
		if diff := cmp.Diff(map[string]user{"bob": bob, "eve": {}}, content(t, must(t)(open(path)))); diff != "" {
			t.Errorf("the file says (-want +got):\n%s", diff)
		}
	})
}

func TestDatabaseCannotBeCreatedOnAFullDiskButLater(t *testing.T) {
	forKinds(t, func(t *testing.T, open func(string, ...Migration) (*DB, error)) {
		dir := mount(t, "size=16k")
		path, ballast := filepath.Join(dir, "agent.db"), filepath.Join(dir, "ballast")
		if err := os.WriteFile(ballast, make([]byte, 12<<10), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := open(path, stamp("one")); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("err is %v", err)
		}
		os.Remove(ballast)
		if err := unix.Mount("", dir, "", unix.MS_REMOUNT, "size=1m"); err != nil {
			t.Fatal(err)
		}
		must(t)(open(path, stamp("one")))
	})
}

func TestReadOnlyFileSystemIsAClearError(t *testing.T) {
	dir := mount(t, "size=256k")
	old, fresh := filepath.Join(dir, "old.db"), filepath.Join(dir, "new.db")
	must(t)(Open(old, nil, Options{})).Close()
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{old, fresh} {
		_, err := Open(path, nil, Options{})
		if !errors.Is(err, syscall.EROFS) || !strings.Contains(err.Error(), path) {
			t.Errorf("err is %v", err)
		}
	}
}

func TestDirectoryThatCannotBeWrittenIsAClearError(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.db")
	if err := os.Chmod(filepath.Dir(path), 0o500); err != nil {
		t.Fatal(err)
	}
	opened := make(chan error)
	go func() { // ends with the receive below
		if os.Geteuid() == 0 {
			// root may write everywhere: this thread, which ends with its goroutine, looks at files
			// as nobody.
			runtime.LockOSThread()
			if err := unix.Setfsuid(65534); err != nil {
				opened <- err
				return
			}
		}
		_, err := Open(path, nil, Options{})
		opened <- err
	}()
	if err := <-opened; !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), path) {
		t.Errorf("err is %v", err)
	}
}

func TestFileThatOthersCouldHaveWrittenIsRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("giving a file away needs root")
	}
	path := filepath.Join(t.TempDir(), "agent.db")
	must(t)(Open(path, nil, Options{})).Close()
	if err := errors.Join(os.Chown(path, 65534, 65534), os.Chmod(path, 0o620)); err != nil {
		t.Fatal(err)
	}
	before := fileOf(t, path)
	if _, err := Open(path, nil, Options{}); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("err is %v", err)
	}
	if fileOf(t, path) != before {
		t.Error("the file was written")
	}
}

func TestFileThatIsNoRegularFileIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.db")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{path, "/dev/null"} {
		if _, err := Open(path, nil, Options{}); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("err is %v", err)
		}
	}
}

// A real file system that cannot map files, as JFFS2 cannot: sshfs without the page cache, on an
// SFTP server that is reached through a pair of pipes.
func TestFileSystemThatCannotMapFiles(t *testing.T) {
	dir := unmappableDir(t)
	path := filepath.Join(dir, "agent.db")
	want := map[string]user{}
	for i := range 3 {
		db := must(t)(Open(path, []Migration{stamp("one")}, Options{}))
		if !db.InMemory() {
			t.Error("InMemory is false")
		}
		key := string(rune('a' + i))
		want["one"], want[key] = user{Name: "one"}, user{Name: key}
		put(t, db, key, want[key])
		if diff := cmp.Diff(want, contentOf(t, path)); diff != "" {
			t.Errorf("after the update, the file says (-want +got):\n%s", diff)
		}
		if _, err := Open(path, nil, Options{LockTimeout: lockPoll}); !errors.Is(err, ErrInUse) {
			t.Errorf("opened twice: %v", err)
		}
		db.Close()
	}
	if got := list(t, dir); len(got) != 1 {
		t.Errorf("the directory holds %v", got)
	}
}

func unmappableDir(t *testing.T) (dir string) {
	t.Helper()
	const server = "/usr/lib/openssh/sftp-server"
	sshfs, err := exec.LookPath("sshfs")
	if err != nil {
		t.Skip("sshfs is not installed")
	}
	if _, err := os.Stat(server); err != nil {
		t.Skip("openssh-sftp-server is not installed")
	}
	behind, dir := t.TempDir(), t.TempDir()
	clientEnd, serverEnd := exec.Command(sshfs, ":"+behind, dir, "-f", "-o", "passive,direct_io"), exec.Command(server)
	if clientEnd.Stdin, err = serverEnd.StdoutPipe(); err != nil {
		t.Fatal(err)
	}
	if serverEnd.Stdin, err = clientEnd.StdoutPipe(); err != nil {
		t.Fatal(err)
	}
	for _, cmd := range []*exec.Cmd{clientEnd, serverEnd} {
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	}
	t.Cleanup(func() { exec.Command("fusermount3", "-u", "-z", dir).Run() })
	waitMounted(t, dir, filepath.Dir(dir))
	return dir
}

// waitMounted waits until dir lies on another device than its parent.
func waitMounted(t *testing.T, dir, parent string) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	late := time.After(60 * time.Second)
	for {
		var a, b unix.Stat_t
		if unix.Stat(dir, &a) == nil && unix.Stat(parent, &b) == nil && a.Dev != b.Dev {
			return
		}
		select {
		case <-tick.C:
		case <-late:
			t.Skip("sshfs cannot mount here")
		}
	}
}
