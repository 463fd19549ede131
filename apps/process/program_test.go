//go:build linux

package process

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"ztm/tunnel/answer"
)

func TestAccountIsBecome(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("becoming another account needs root")
	}
	a, err := Lookup("nobody")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("SECRET_OF_THE_AGENT", "x")
	_, conn := begin(t, `id -u; id -g; id -G; pwd; env | sort; tty >/dev/null && stat -c %u "$(tty)"`, func(c *Config) {
		c.Program.Account, c.Program.Env, c.Program.TTY = a, a.Env("TERM=xterm", "LANG=C.UTF-8"), &Size{80, 24}
		c.Program.Dir = a.Home
	})
	got := driveTo(t, conn, Streams{})
	want := []string{"65534", "65534", "65534", "/",
		"HOME=/nonexistent", "LANG=C.UTF-8", "LOGNAME=nobody", "PATH=" + userPath, "PWD=/", "SHELL=/usr/sbin/nologin",
		"TERM=xterm", "USER=nobody", "65534"}
	lines := strings.FieldsFunc(got.Out, func(r rune) bool { return r == '\r' || r == '\n' })
	lines = slicesDelete(lines, "OLDPWD=", "_=", "TZ=", "SHLVL=")
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Errorf("what the program sees (-want +got):\n%s", diff)
	}
}

func slicesDelete(lines []string, prefixes ...string) (kept []string) {
	for _, l := range lines {
		drop := false
		for _, p := range prefixes {
			drop = drop || strings.HasPrefix(l, p)
		}
		if !drop {
			kept = append(kept, l)
		}
	}
	return kept
}

func TestOwnGroupsAreDropped(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("groups can be set by root alone")
	}
	before, err := unix.Getgroups()
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Setgroups(append(before, 0, 4, 24)); err != nil {
		t.Skip("groups cannot be set here:", err)
	}
	defer unix.Setgroups(before)
	a, err := Lookup("nobody")
	if err != nil {
		t.Fatal(err)
	}
	_, conn := begin(t, "id -G; cat /etc/shadow", func(c *Config) { c.Program.Account = a })
	if got := driveTo(t, conn, Streams{}); got.Out != "65534\n" || got.Exit.Status == 0 {
		t.Errorf("got %+v", got)
	}
}

func TestProgramThatCannotBeStartedIsExplained(t *testing.T) {
	a, err := Lookup("")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, path string
		want       *answer.Error
	}{
		{"missing", "/no/such", answer.Errorf(answer.NotFound, "cannot start /no/such as %s: no such file or directory", a.Name)},
		{"not executable", file, answer.Errorf(answer.Denied, "cannot start %s as %s: permission denied", file, a.Name)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, tty := range []*Size{nil, {80, 24}} {
				_, err := Begin(Config{Program: Program{Path: tt.path, Args: []string{"x"}, Dir: "/", Account: a, TTY: tty}})
				if diff := cmp.Diff(error(tt.want), err); diff != "" {
					t.Errorf("error (-want +got):\n%s", diff)
				}
			}
		})
	}
}

func TestProgramIsFoundThroughPath(t *testing.T) {
	dir := t.TempDir()
	a := &Account{Home: dir}
	must(t, os.WriteFile(filepath.Join(dir, "tool"), []byte("#!/bin/sh\n"), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "data"), nil, 0o644))
	env := []string{"PATH=.:/nonexistent:" + dir}
	tests := []struct {
		name, program, want string
		is                  error
	}{
		{"in PATH", "tool", filepath.Join(dir, "tool"), nil},
		{"absolute", "/bin/sh", "/bin/sh", nil},
		{"from home", "./tool", filepath.Join(dir, "tool"), nil},
		{"no such", "nothing", "", os.ErrNotExist},
		{"not executable", "data", "", os.ErrPermission},
		{"a directory", "/tmp", "", os.ErrPermission},
		{"empty", "", "", os.ErrNotExist},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := a.Find(tt.program, env)
			if got != tt.want || !errors.Is(err, tt.is) {
				t.Errorf("Find(%q) = %q, %v; want %q, %v", tt.program, got, err, tt.want, tt.is)
			}
		})
	}
}

func TestProgramInheritsNothingElse(t *testing.T) {
	fd, err := unix.Dup(0) // as a parent that was not careful leaves it: without close-on-exec
	must(t, err)
	defer unix.Close(fd)
	_, conn := begin(t, "echo /proc/self/fd/*", nil)
	if got := driveTo(t, conn, Streams{}).Out; got != "/proc/self/fd/0 /proc/self/fd/1 /proc/self/fd/2 /proc/self/fd/3\n" {
		t.Errorf("descriptors of the program: %q", got) // 3 is the directory
	}
}
