package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The library's tests know what its callers may expect.
func TestTheLibrarysOwnTestsPassWithOurSort(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles tests of the standard library")
	}
	root, err := output(t.Context(), ".", "go", "env", "GOROOT")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(root, "src", "slices", "sort_test.go")); err != nil {
		t.Skip("Go is installed without its tests")
	}
	overlay := filepath.Join(t.TempDir(), "overlay.json")
	sort := standIns[len(standIns)-1] // testing itself needs the others as they are
	if err := writeOverlay(overlay, root, []standIn{sort}); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", "test", "-short", "-v", "-run", "Sort|Stab|MinMax", "-overlay", overlay, "slices")
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: TestStability") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestEachProfileHasItsOwnStandIns(t *testing.T) {
	r := release(t)
	for profile, want := range map[Profile]int{Full: 1, Router: len(standIns)} {
		text, err := os.ReadFile(r.Overlays[profile])
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Count(string(text), "ztm_"); got != want {
			t.Errorf("profile %s: %d files of ours, want %d", profile, got, want)
		}
	}
	for _, s := range standIns {
		if strings.HasPrefix(s.in, "crypto") || strings.Contains(s.in, "/crypto/") {
			t.Errorf("%s: what encrypts stays the library's", s.in)
		}
	}
}

func TestALibraryThatHasMovedIsAnError(t *testing.T) {
	if _, err := writeOverlays(t.TempDir(), t.TempDir()); err == nil || !strings.Contains(err.Error(), "text/template") {
		t.Errorf("got %v", err)
	}
}
