package service

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// local is a plan whose service is a file.
func local(dir string) Plan {
	up := filepath.Join(dir, "up")
	return Plan{
		Name: "ztm-agent", Dirs: []string{filepath.Join(dir, "data")},
		Files: []File{
			{Path: filepath.Join(dir, "etc/unit"), Mode: 0o640, Text: "unit\n"},
			{Path: filepath.Join(dir, "etc/config"), Mode: 0o600, Text: "default\n", Keep: true},
		},
		Start:  []Command{try("false"), run("touch", up)},
		Stop:   []Command{run("rm", up)},
		Status: run("test", "-e", up),
		Remove: []Command{run("touch", filepath.Join(dir, "removed"))},
	}
}

func TestAServiceIsInstalledTwiceAndRemoved(t *testing.T) {
	dir := t.TempDir()
	p := local(dir)
	if p.Installed() || p.Running(t.Context()) {
		t.Error("it is there before it was installed")
	}
	if err := os.MkdirAll(filepath.Join(dir, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p.Files[1].Path, []byte("mine\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var given []string
	for range 2 {
		if err := p.Install(t.Context(), func(path string) error { given = append(given, path); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	if len(given) != 2 || given[0] != p.Dirs[0] {
		t.Errorf("the account was given %q", given)
	}
	if fi, err := os.Stat(p.Files[0].Path); err != nil || fi.Mode() != 0o640 {
		t.Errorf("unit: %v, %v", fi.Mode(), err)
	}
	if !p.Installed() || !p.Running(t.Context()) {
		t.Error("it does not run")
	}
	if err := p.Uninstall(t.Context()); err != nil {
		t.Fatal(err)
	}
	if p.Installed() || p.Running(t.Context()) {
		t.Error("it is still there")
	}
	if b, err := os.ReadFile(p.Files[1].Path); err != nil || string(b) != "mine\n" {
		t.Errorf("the configuration that was there: %q, %v", b, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "removed")); err != nil {
		t.Error("the last commands were not run")
	}
	if err := p.Uninstall(t.Context()); err == nil || !strings.Contains(err.Error(), "is not a service of this machine") {
		t.Errorf("a second time: %v", err)
	}
}

func TestAFailedCommandSaysWhatItSaid(t *testing.T) {
	err := runAll(t.Context(), []Command{run("sh", "-c", "echo no way >&2; exit 3")})
	if err == nil || !strings.Contains(err.Error(), "no way") {
		t.Errorf("%v", err)
	}
	if err := runAll(t.Context(), []Command{run("a-program-that-nobody-has")}); err == nil || err.Error() != "a-program-that-nobody-has is not installed" {
		t.Errorf("%v", err)
	}
}

func TestThePermitIsFetchedOnceItIsThere(t *testing.T) {
	dir := t.TempDir()
	from, to := filepath.Join(dir, "root.json"), filepath.Join(dir, "mine.json")
	done := make(chan error, 1)
	go func() { done <- fetchPermit(t.Context(), from, to) }()
	write(t, from, "{}")
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	fi, err := os.Stat(to)
	if err != nil || fi.Mode() != 0o600 {
		t.Errorf("%v, %v", fi.Mode(), err)
	}
	if _, err := os.Stat(from); !errors.Is(err, fs.ErrNotExist) {
		t.Error("the hub still has it")
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := (File{Path: path, Mode: 0o600, Text: text}).write(); err != nil {
		t.Fatal(err)
	}
}

// Each case is what a start that was killed has left.
func TestAStartThatWasKilledIsFinishedByTheNext(t *testing.T) {
	for _, tt := range []struct {
		name             string
		from, to         string // what is in the files; empty: they are not there
		wantFrom, wantTo string
		err              string
	}{
		{"before the permit was there", "", "", "", "", "file does not exist"},
		{"before it was copied", "key", "", "", "key", ""},
		{"before the hub's was removed", "key", "key", "", "key", ""},
		{"never, but somebody's file is in the way", "key", "other", "key", "other", "another file is there"},
		{"after all was done", "", "key", "", "key", "file does not exist"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			from, to := filepath.Join(dir, "root.json"), filepath.Join(dir, "mine.json")
			for path, text := range map[string]string{from: tt.from, to: tt.to} {
				if text != "" {
					write(t, path, text)
				}
			}
			err := movePermit(from, to)
			if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) && !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("error %v, want %s", err, tt.err)
			}
			for path, want := range map[string]string{from: tt.wantFrom, to: tt.wantTo} {
				if got, err := os.ReadFile(path); string(got) != want || errors.Is(err, fs.ErrNotExist) != (want == "") {
					t.Errorf("%s: %q, %v; want %q", filepath.Base(path), got, err, want)
				}
			}
		})
	}
}

func TestALinkInThePlaceOfThePermitIsNotFollowed(t *testing.T) {
	dir := t.TempDir()
	from, to := filepath.Join(dir, "data", "root.json"), filepath.Join(dir, "mine.json")
	write(t, filepath.Join(dir, "shadow"), "secret")
	write(t, filepath.Join(dir, "data", "hub.db"), "")
	if err := os.Symlink(filepath.Join(dir, "shadow"), from); err != nil {
		t.Skip(err)
	}
	if err := movePermit(from, to); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
	if b, err := os.ReadFile(to); err == nil {
		t.Errorf("it was copied: %q", b)
	}
}

func TestAPermitThatHasNoPlaceStopsTheStart(t *testing.T) {
	dir := t.TempDir()
	data, to := filepath.Join(dir, "data"), filepath.Join(dir, "mine.json")
	if moved, err := checkPermit(data, to); moved || err != nil {
		t.Errorf("nothing is in the way: %v, %v", moved, err)
	}
	if _, err := checkPermit(data, filepath.Join(dir, "nowhere", "mine.json")); err == nil {
		t.Error("a directory that is not there")
	}
	write(t, to, "key")
	if _, err := checkPermit(data, to); err == nil || !strings.Contains(err.Error(), "is there already") {
		t.Errorf("a file that is no new mesh's: %v", err)
	}
	write(t, filepath.Join(data, "hub.db"), "")
	if moved, err := checkPermit(data, to); !moved || err != nil {
		t.Errorf("the hub's own, from before: %v, %v", moved, err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, ".permit-*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
