package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// here is the target that this machine runs.
func here(t *testing.T, profile Profile) Target {
	t.Helper()
	if testing.Short() {
		t.Skip("builds the program")
	}
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		t.Skip("runs on linux/amd64")
	}
	x := target(t, "linux/amd64")
	x.Profile = profile
	return x
}

func release(t *testing.T) Release {
	t.Helper()
	t.Setenv("SOURCE_DATE_EPOCH", "1769860800")
	r, err := newRelease(t.Context(), "v1.2.3", t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	r.Commit = "0123456789abcdef"
	return r
}

func TestAnywhereItIsTheSame(t *testing.T) {
	target, r := here(t, Router), release(t)
	var sums []string
	for range 2 {
		r.Root = elsewhere(t, r.Root)
		out := filepath.Join(t.TempDir(), "ztm")
		if err := r.build(t.Context(), target, out); err != nil {
			t.Fatal(err)
		}
		program, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(program, []byte(r.Root)) {
			t.Errorf("the binary names the directory %s", r.Root)
		}
		sums = append(sums, fmt.Sprintf("%x", sha256.Sum256(program)))
	}
	if sums[0] != sums[1] {
		t.Errorf("two directories make two binaries: %v", sums)
	}
}

// elsewhere copies the sources to another directory.
func elsewhere(t *testing.T, root string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "source")
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		switch {
		case d.IsDir() && (d.Name() == ".git" || d.Name() == "dist" || d.Name() == "scripts"):
			return filepath.SkipDir
		case d.IsDir():
			return os.MkdirAll(filepath.Join(to, rel), 0o755)
		case !d.Type().IsRegular():
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), data, 0o644)
	})
	if err != nil {
		t.Fatal(err)
	}
	return to
}

func TestTheProgramRunsWithoutTemplates(t *testing.T) {
	target, r := here(t, Router), release(t)
	exe := filepath.Join(t.TempDir(), "ztm")
	if err := r.build(t.Context(), target, exe); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ args, want string }{
		{"version", "Tag:       v1.2.3\nCommit:    0123456789abcdef\nDate:      2026-01-31T12:00:00Z\n"},
		{"help", "Usage: ztm COMMAND"},
		{"run hub --help", "Usage: ztm run hub"},
		{"version -o yaml", "{\n  \"tag\": \"v1.2.3\","},
		{"start agent --system systemd --print --data /x", `ExecStart="` + exe + `" "run" "agent" "--data=/x"`},
	} {
		cmd := exec.Command(exe, strings.Fields(tt.args)...)
		cmd.Env = append(os.Environ(), "CLI_TEMPLATE_ERROR_DEBUG=1")
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), tt.want) {
			t.Errorf("ztm %s: %v, got %q, want %q", tt.args, err, out, tt.want)
		}
	}
	dir := t.TempDir()
	manifest := filepath.Join(dir, "tunnels.yaml")
	if err := os.WriteFile(manifest, []byte("tunnels:\n- name: tcp/web\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(exe, "apply", "-f", manifest).CombinedOutput(); err == nil || !strings.Contains(string(out), "this build of ztm reads no YAML") {
		t.Errorf("apply of YAML: %v, %s", err, out)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, exe, "run", "hub", "--data", dir, "--listen", "127.0.0.1:0", "--names", "127.0.0.1:1")
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := os.Stat(filepath.Join(dir, "root.json")); err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("the hub writes no permit")
		}
	}
}

func TestWhateverIsLeftOutTheRestIsThere(t *testing.T) {
	target, r := here(t, Full), release(t)
	of := map[string]string{"js": "script", "cluster": "hub", "mirrors": "cloud"} // what is nothing without another
	for _, left := range append([]string{"", strings.Join(features, ",")}, features...) {
		t.Run(left, func(t *testing.T) {
			exe := filepath.Join(t.TempDir(), "ztm")
			one := []Target{target}
			if err := adjust(one, left, ""); err != nil {
				t.Fatal(err)
			}
			if err := r.build(t.Context(), one[0], exe); err != nil {
				t.Fatal(err)
			}
			out, err := exec.Command(exe, "version").Output()
			if err != nil {
				t.Fatal(err)
			}
			want := []string{"agent", "tunnel"}
			for _, f := range features {
				name := map[string]string{"js": "javascript"}[f]
				switch {
				case slices.Contains(one[0].Omit, f), slices.Contains(one[0].Omit, of[f]):
				case name == "":
					want = append(want, f)
				default:
					want = append(want, name)
				}
			}
			slices.Sort(want)
			if line := "Features:  " + strings.Join(want, ", ") + "\n"; !strings.HasSuffix(string(out), line) {
				t.Errorf("want %sgot:\n%s", line, out)
			}
			if !slices.Contains(one[0].Omit, "backup") {
				return
			}
			if out, err := exec.Command(exe, "backup", "file").CombinedOutput(); err == nil || !strings.Contains(string(out), `"backup" is not in this build`) {
				t.Errorf("a command that was left out: %v, %s", err, out)
			}
		})
	}
}

func TestTheRouterProfileMakesPoliciesOnlyWhereTheyAreAdded(t *testing.T) {
	r := release(t)
	for add, want := range map[string]bool{"": false, strings.Join(extras, ","): true} {
		one := []Target{here(t, Router)}
		if err := adjust(one, "", add); err != nil {
			t.Fatal(err)
		}
		exe := filepath.Join(t.TempDir(), "ztm")
		if err := r.build(t.Context(), one[0], exe); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(exe, "version").Output()
		if got := strings.Contains(string(out), "policies, proxy"); err != nil || got != want {
			t.Errorf("added %q: %v, %s", add, err, out)
		}
		out, err = exec.Command(exe, "group", "remove", "x").CombinedOutput()
		if got := !strings.Contains(string(out), `"group remove" is not in this build of ztm`); err == nil || got != want {
			t.Errorf("added %q: ztm group remove: %v, %s", add, err, out)
		}
	}
}

func TestFeaturesAreThoseThatHaveATag(t *testing.T) {
	var names []string
	for _, dir := range []string{"../agent/feature", "../apps/builtin"} {
		files, err := filepath.Glob(dir + "/*_omitted.go")
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			names = append(names, strings.TrimSuffix(filepath.Base(f), "_omitted.go"))
		}
	}
	slices.Sort(names)
	if diff := cmp.Diff(features, names); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if err := adjust(Targets(), "hub,web", ""); err == nil || !strings.Contains(err.Error(), `unknown feature "web"`) {
		t.Errorf("got %v", err)
	}
	if err := adjust(Targets(), "", "policies,js"); err == nil || !strings.Contains(err.Error(), `cannot have "js"`) {
		t.Errorf("got %v", err)
	}
}

// reflected finds what asks for methods by names that only the running program knows: the linker
// then keeps all methods.
func reflected(t *testing.T, r Release, target Target) []string {
	t.Helper()
	dump, err := r.command(t.Context(), target, os.DevNull, "-dumpdep").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, dump[max(0, len(dump)-2000):])
	}
	if !bytes.Contains(dump, []byte("main.main -> ")) {
		t.Fatal("the linker wrote no dependencies")
	}
	var out []string
	for _, m := range regexp.MustCompile(`(?m)^(\S+) <ReflectMethod>`).FindAllSubmatch(dump, -1) {
		out = append(out, string(m[1]))
	}
	return out
}

func TestTheLinkerPrunesMethods(t *testing.T) {
	target, r := here(t, Router), release(t)
	if found := reflected(t, r, target); len(found) > 0 {
		t.Errorf("methods are kept because of: %q", found)
	}
}

func TestOnlyJavaScriptKeepsMethods(t *testing.T) {
	target, r := here(t, Full), release(t)
	engine := false
	for _, f := range reflected(t, r, target) {
		engine = engine || strings.Contains(f, "goja")
		// Once the engine has all methods kept, those of reflect.Value are among them.
		if !strings.Contains(f, "goja") && !strings.HasPrefix(f, "reflect.") {
			t.Errorf("methods are kept because of %s", f)
		}
	}
	if !engine {
		t.Error("nothing keeps methods any longer: the full profile could do without the JavaScript engine's price")
	}
}

func TestAFailureNamesItsTarget(t *testing.T) {
	root := t.TempDir()
	for name, text := range map[string]string{"go.mod": "module ztm\n", "main.go": "package main\n\nfunc main() { nonsense() }\n", "LICENSE": ""} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	overlay := filepath.Join(root, "overlay.json")
	if err := os.WriteFile(overlay, []byte("{}"), 0o644); err != nil {
		t.Fatal(err)
	}
	j := job{targets: []Target{target(t, "linux/amd64"), target(t, "freebsd/amd64")}, release: Release{Root: root, Overlays: map[Profile]string{Full: overlay}}}
	sizes, err := j.build(t.Context(), t.TempDir(), new(bytes.Buffer))
	if err == nil || len(sizes) > 0 {
		t.Fatalf("%v, %v", sizes, err)
	}
	for _, want := range []string{"linux/amd64: exit status 1", "freebsd/amd64: exit status 1", "undefined: nonsense"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in: %v", want, err)
		}
	}
}
