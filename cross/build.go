package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Release is what all binaries of a release have in common.
type Release struct {
	Root     string             // of the module
	Version  string             // v1.2.3
	Commit   string             // empty where there is no git repository
	Built    time.Time          // of the commit, or $SOURCE_DATE_EPOCH
	Overlays map[Profile]string // see writeOverlays
	DWARF    bool               // what a debugger reads is made, and not stripped
	Linker   string             // of the router profile: the argument for -toolexec; empty: Go's own
	Manual   []artifact         // pages for man; none where nothing is packed
}

// newRelease finds out what is being released. scratch is a directory for the overlays. An empty
// version is asked of git.
func newRelease(ctx context.Context, version, scratch string) (Release, error) {
	var r Release
	mod, err := output(ctx, ".", "go", "env", "GOMOD", "GOROOT")
	if err != nil {
		return r, err
	}
	gomod, goroot, _ := strings.Cut(mod, "\n")
	if filepath.Base(gomod) != "go.mod" {
		return r, fmt.Errorf("not inside the module: run it in a clone of the repository")
	}
	r.Root = filepath.Dir(gomod)
	if r.Overlays, err = writeOverlays(scratch, goroot, r.Root); err != nil {
		return r, fmt.Errorf("overlay: %w", err)
	}
	if r.Linker, err = makeLinker(ctx, scratch, goroot, r.Root); err != nil {
		return r, fmt.Errorf("linker: %w", err)
	}
	if r.Built, err = commitTime(ctx, r.Root); err != nil {
		return r, err
	}
	r.Commit, _ = output(ctx, r.Root, "git", "rev-parse", "HEAD")
	if r.Version = version; version == "" {
		r.Version = describe(ctx, r)
	}
	return r, nil
}

// commitTime is the one time that is the same wherever a release is built.
func commitTime(ctx context.Context, root string) (time.Time, error) {
	seconds := os.Getenv("SOURCE_DATE_EPOCH")
	if seconds == "" {
		seconds, _ = output(ctx, root, "git", "log", "-1", "--format=%ct")
	}
	n, err := strconv.ParseInt(cmp.Or(seconds, "0"), 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
	}
	if n == 0 {
		return time.Time{}, fmt.Errorf("no time of the commit: set SOURCE_DATE_EPOCH where there is no git repository")
	}
	return time.Unix(n, 0).UTC(), nil
}

// describe names what is not a release as Go's pseudo-versions do.
func describe(ctx context.Context, r Release) string {
	if tag, err := output(ctx, r.Root, "git", "describe", "--tags", "--exact-match"); err == nil {
		return tag
	}
	version := "v0.0.0-" + r.Built.Format("20060102150405")
	if len(r.Commit) > 12 {
		version += "-" + r.Commit[:12]
	}
	return version
}

// build links the target into the file out.
func (r Release) build(ctx context.Context, t Target, out string) error {
	return quiet(ctx, r.command(ctx, t, out))
}

// quiet runs a command whose output is of interest when it fails.
func quiet(ctx context.Context, cmd *exec.Cmd) error {
	var messages bytes.Buffer
	cmd.Stdout, cmd.Stderr = &messages, &messages
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%w\n%s", cmp.Or(context.Cause(ctx), err), bytes.TrimSpace(messages.Bytes()))
	}
	return nil
}

// command is what builds the target. Extra flags go to the linker.
func (r Release) command(ctx context.Context, t Target, out string, linker ...string) *exec.Cmd {
	flags := append([]string{"-buildid=", "-X main.version=" + r.Version, "-X main.commit=" + r.Commit, "-X main.built=" + r.Built.Format(time.RFC3339)}, linker...)
	if !r.DWARF {
		flags = append(flags, "-s", "-w")
	}
	args := append([]string{"build", "-trimpath", "-buildvcs=false", "-overlay", r.Overlays[t.Profile], "-tags", t.Tags() + r.terminal(t),
		"-ldflags", strings.Join(flags, " "), "-o", out}, t.CompilerFlags(r.DWARF)...)
	if t.Profile == Router && r.Linker != "" {
		args = append(args, "-toolexec", r.Linker)
	}
	cmd := exec.CommandContext(ctx, "go", append(args, ".")...)
	cmd.Dir = r.Root
	cmd.Env = append(os.Environ(), t.Env()...)
	return cmd
}

// terminal is the tag of the console's terminal, where its files were fetched: see scripts/web.
func (r Release) terminal(t Target) string {
	if _, err := os.Stat(filepath.Join(r.Root, "agent/web/fetched/xterm.js.gz")); err != nil || t.Profile != Full {
		return ""
	}
	return ",ztm_xterm"
}

// output returns what a command prints, without the last line end.
func output(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(out)), nil
}
