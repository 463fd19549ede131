//go:build unix

package api

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// short returns a directory whose name is short enough for a socket in it; long returns one where
// it is not.
func short(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "ztm-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func long(t *testing.T) string {
	t.Helper()
	t.Setenv("TMPDIR", short(t))
	dir := filepath.Join(short(t), strings.Repeat("d", maxSocketPath))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestTheAgentIsFoundByItsDataDirectory(t *testing.T) {
	for _, tt := range []struct {
		name string
		dir  func(*testing.T) string
		in   func(dir string) string
	}{
		{"short", short, func(dir string) string { return dir }},
		{"long", long, func(string) string { return os.TempDir() }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := tt.dir(t)
			for range 2 { // the second time after a clean end
				l, _, err := Listen(dir)
				if err != nil {
					t.Fatal(err)
				}
				if where := Location(dir); !strings.HasPrefix(where, tt.in(dir)) {
					t.Errorf("the socket is %s", where)
				}
				if fi, err := os.Stat(Location(dir)); err != nil || fi.Mode().Perm() != 0o600 {
					t.Errorf("mode %v, %v; want 0600", fi.Mode(), err)
				}
				c, _, err := Dial(context.Background(), dir)
				if err != nil {
					t.Fatal(err)
				}
				c.Close()
				l.Close()
				if _, err := os.Lstat(Location(dir)); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("the socket is left behind: %v", err)
				}
			}
		})
	}
}

func TestTheTokenIsNewAtEachStartAndForTheUserAlone(t *testing.T) {
	for name, dir := range map[string]func(*testing.T) string{"in the data directory": short, "in the common directory": long} {
		t.Run(name, func(t *testing.T) {
			dir, seen := dir(t), map[string]bool{}
			for range 2 {
				l, token, err := Listen(dir)
				if err != nil {
					t.Fatal(err)
				}
				path := tokenPath(Location(dir))
				if fi, err := os.Lstat(path); err != nil || fi.Mode() != 0o600 {
					t.Errorf("%s: %v, %v; want a file of mode 0600", path, fi, err)
				}
				c, read, err := Dial(t.Context(), dir)
				if err != nil {
					t.Fatal(err)
				}
				c.Close()
				if read != token || len(token) < 26 || seen[token] {
					t.Errorf("the token is %q, it reads as %q", token, read)
				}
				seen[token] = true
				l.Close()
				if there(path) {
					t.Error("the token is left behind")
				}
			}
		})
	}
}

func TestATokenThatWasRemovedIsWrittenAgain(t *testing.T) {
	dir := short(t)
	l, token, err := Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := os.Remove(tokenPath(Location(dir))); err != nil {
		t.Fatal(err)
	}
	if !whole(Location(dir), token) {
		t.Error("the socket seems to be gone")
	}
	c, read, err := Dial(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if read != token {
		t.Errorf("the token reads as %q, want %q", read, token)
	}
}

func TestALinkInPlaceOfTheTokenIsReplacedAndNotFollowed(t *testing.T) {
	dir := short(t)
	precious := filepath.Join(dir, "precious")
	for _, name := range []string{tokenPath(Location(dir)), tokenPath(Location(dir)) + ".new"} {
		if err := errors.Join(os.WriteFile(precious, []byte("precious"), 0o600), os.Symlink(precious, name)); err != nil {
			t.Fatal(err)
		}
	}
	l, _, err := Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if b, err := os.ReadFile(precious); string(b) != "precious" {
		t.Errorf("the file holds %q, %v", b, err)
	}
}

func TestASocketThatWasLeftBehindIsReplaced(t *testing.T) {
	dir := short(t)
	l, _, err := Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	keepFile(l.(*lasting).inner)
	l.Close()
	again, _, err := Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}

func TestASocketThatWasRemovedIsMadeAgain(t *testing.T) {
	for name, make := range map[string]func(*testing.T) string{"in the data directory": short, "in the common directory": long} {
		t.Run(name, func(t *testing.T) {
			path, fallback, err := socketPath(make(t))
			if err != nil {
				t.Fatal(err)
			}
			gone := path
			if fallback {
				gone = filepath.Dir(path) // cleaners take the directory as well
			}
			l, err := newLasting(func() (net.Listener, error) { return open(path, "token", fallback) },
				func() bool { return whole(path, "token") }, time.Millisecond)
			if err != nil {
				t.Fatal(err)
			}
			var wg sync.WaitGroup
			wg.Go(func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					c.Close()
				}
			})
			defer wg.Wait()
			defer l.Close()
			for range 3 {
				if err := os.RemoveAll(gone); err != nil {
					t.Fatal(err)
				}
				for deadline := time.Now().Add(30 * time.Second); ; {
					c, err := net.Dial("unix", path)
					if err == nil {
						c.Close()
						break
					}
					if time.Now().After(deadline) {
						t.Fatal(err)
					}
					runtime.Gosched()
				}
			}
			l.Close()
			if there(path) {
				t.Error("closing leaves the socket")
			}
		})
	}
}

func TestAFileInPlaceOfTheSocketIsNotRemoved(t *testing.T) {
	dir := short(t)
	if err := os.WriteFile(Location(dir), []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if l, _, err := Listen(dir); err == nil {
		l.Close()
		t.Error("listening on a file")
	}
	if b, err := os.ReadFile(Location(dir)); string(b) != "precious" {
		t.Errorf("the file holds %q, %v", b, err)
	}
}

func TestADirectoryThatAnotherUserMadeIsNotTrusted(t *testing.T) {
	for _, tt := range []struct {
		name string
		make func(path string) error
	}{
		{"open to others", func(path string) error { return errors.Join(os.Mkdir(path, 0o700), os.Chmod(path, 0o755)) }},
		{"a link", func(path string) error {
			return errors.Join(os.Mkdir(path+"-elsewhere", 0o700), os.Symlink(path+"-elsewhere", path))
		}},
		{"owned by another", func(path string) error {
			if os.Getuid() != 0 {
				return errors.ErrUnsupported
			}
			return errors.Join(os.Mkdir(path, 0o700), os.Chown(path, 12345, 12345))
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := long(t)
			err := tt.make(filepath.Dir(Location(dir)))
			if errors.Is(err, errors.ErrUnsupported) {
				t.Skip("needs root")
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := Dial(context.Background(), dir); err == nil || !strings.Contains(err.Error(), "not a private directory") {
				t.Errorf("dial: %v", err)
			}
			if l, _, err := Listen(dir); err == nil {
				l.Close()
				t.Error("listening there")
			}
		})
	}
}
