package console

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// binary makes a file that passes for the binary.
func binary(t *testing.T, dir string) string {
	t.Helper()
	path := filepath.Join(dir, "ztm")
	if err := os.WriteFile(path, []byte("binary"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestInstallLinks(t *testing.T) {
	home, other := t.TempDir(), t.TempDir()
	exe := binary(t, home)
	for _, tt := range []struct{ name, dir, target string }{
		{"beside the binary", home, "ztm"},
		{"elsewhere", other, exe},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for range 2 { // the second time changes nothing
				made, err := installLinks(exe, tt.dir)
				if err != nil || len(made) != 2 {
					t.Fatal(made, err)
				}
				for _, name := range []string{"ztm-hub", "ztm-agent"} {
					if target, err := os.Readlink(filepath.Join(tt.dir, name)); err != nil || target != tt.target {
						t.Errorf("%s leads to %q, %v; want %q", name, target, err, tt.target)
					}
				}
			}
			left, err := filepath.Glob(filepath.Join(tt.dir, "*.new"))
			if err != nil || len(left) > 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}

func TestInstallLinksThroughALinkLeadsToTheBinary(t *testing.T) {
	home, other := t.TempDir(), t.TempDir()
	exe := binary(t, home)
	if _, err := installLinks(exe, home); err != nil {
		t.Fatal(err)
	}
	if _, err := installLinks(filepath.Join(home, "ztm-hub"), other); err != nil {
		t.Fatal(err)
	}
	if target, err := os.Readlink(filepath.Join(other, "ztm-hub")); err != nil || target != exe {
		t.Errorf("leads to %q, %v", target, err)
	}
}

func TestInstallLinksReplacesOnlyWhatIsOurs(t *testing.T) {
	for _, tt := range []struct {
		name string
		make func(exe, path string) error
		ok   bool
	}{
		{"a link that leads nowhere", func(_, path string) error { return os.Symlink("gone", path) }, true},
		{"a hard link", os.Link, true},
		{"a copy", copyFile, true},
		{"another file", func(_, path string) error { return os.WriteFile(path, []byte("precious"), 0o755) }, false},
		{"a longer copy", func(_, path string) error { return os.WriteFile(path, []byte("binary and more"), 0o755) }, false},
		{"a link to another file", func(_, path string) error { return os.Symlink(os.Args[0], path) }, false},
		{"a directory", func(_, path string) error { return os.Mkdir(path, 0o755) }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			exe, path := binary(t, dir), filepath.Join(dir, "ztm-hub")
			if err := tt.make(exe, path); err != nil {
				t.Fatal(err)
			}
			before, err := os.Lstat(path)
			if err != nil {
				t.Fatal(err)
			}
			_, err = installLinks(exe, dir)
			if (err == nil) != tt.ok {
				t.Fatalf("got %v", err)
			}
			if tt.ok {
				if b, err := os.ReadFile(path); err != nil || string(b) != "binary" {
					t.Errorf("it is %q, %v", b, err)
				}
				return
			}
			if !strings.Contains(err.Error(), "in the way") {
				t.Errorf("got %v", err)
			}
			if after, err := os.Lstat(path); err != nil || after.Mode() != before.Mode() || after.Size() != before.Size() {
				t.Errorf("it was changed: %v, %v", after, err)
			}
		})
	}
}

func TestInstallLinksNeedsADirectory(t *testing.T) {
	dir := t.TempDir()
	if _, err := installLinks(binary(t, dir), filepath.Join(dir, "none")); err == nil {
		t.Error("installed into nowhere")
	}
}
