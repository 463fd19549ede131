//go:build unix

package mirror

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"ztm/apps/rooted/rootedtest"
)

func put(t testing.TB, path, text string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
		t.Fatal(err)
	}
}

func TestAScanFindsFilesAndSaysWhatIsNone(t *testing.T) {
	d, dir := rootedtest.Dir(t)
	for _, name := range []string{"a", "b/c", "b/x.tmp", "out/x", "ctl\x01", ".ztm-own"} {
		put(t, filepath.Join(dir, name), name)
	}
	if err := errors.Join(syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600), os.Symlink("/etc", filepath.Join(dir, "link"))); err != nil {
		t.Fatal(err)
	}
	f, err := Scan(d, "docs", Patterns{"*.tmp", "out"})
	if err != nil {
		t.Fatal(err)
	}
	if got := slices.Sorted(maps.Keys(f.Files)); !slices.Equal(got, []string{"a", "b/c"}) {
		t.Errorf("files: %q", got)
	}
	if got := slices.Sorted(maps.Keys(f.Skipped)); !slices.Equal(got, []string{"ctl\x01", "link", "pipe"}) {
		t.Errorf("skipped: %q", got)
	}
	if !f.Gone("none") || f.Gone("a") || f.Gone("link/passwd") || f.Gone("link") || (Found{Skipped: map[string]string{"": "no"}}).Gone("a") {
		t.Error("what has gone is not what is not there")
	}
}

func TestANameIsPublishedWhereItsWholePathCanBe(t *testing.T) {
	d, dir := rootedtest.Dir(t)
	put(t, filepath.Join(dir, "a:b"), "")
	for at, is := range map[string]bool{"docs": true, "": false} { // Windows takes "a:b" for a file of drive A
		f, err := Scan(d, at, nil)
		_, found := f.Files["a:b"]
		if err != nil || found != is || len(f.Files)+len(f.Skipped) != 1 {
			t.Errorf("at %q: %+v, %v", at, f, err)
		}
	}
}

// TestAnEditThatKeepsItsTimeIsSeen holds that a time which somebody has set back hides nothing.
func TestAnEditThatKeepsItsTimeIsSeen(t *testing.T) {
	d, dir := rootedtest.Dir(t)
	path := filepath.Join(dir, "f")
	put(t, path, "one")
	when := time.Unix(1e9, 0)
	os.Chtimes(path, when, when)
	before, err := Scan(d, "docs", nil)
	if err != nil {
		t.Fatal(err)
	}
	put(t, path, "two")
	os.Chtimes(path, when, when)
	after, err := Scan(d, "docs", nil)
	if err != nil || before.Files["f"] == after.Files["f"] {
		t.Errorf("%+v, %v", after, err)
	}
}

func TestAMirrorKnowsItsDirectoryAgain(t *testing.T) {
	d, dir := rootedtest.Dir(t)
	m, err := SetMark(d, "id1")
	if err != nil || m.Check(d) != nil {
		t.Fatalf("%v, %v", err, m.Check(d))
	}
	other, _ := rootedtest.Dir(t)
	if err := m.Check(other); !errors.Is(err, ErrGone) {
		t.Errorf("an empty directory: %v", err)
	}
	if _, err := SetMark(other, "id2"); err != nil {
		t.Fatal(err)
	}
	if err := m.Check(other); !errors.Is(err, ErrGone) {
		t.Errorf("another mirror's: %v", err)
	}
	moved := m
	moved.Device++
	if err := moved.Check(d); !errors.Is(err, ErrGone) {
		t.Errorf("on another disk: %v", err)
	}
	if err := os.Remove(filepath.Join(dir, ".ztm-mirror")); err != nil {
		t.Fatal(err)
	}
	if err := m.Check(d); !errors.Is(err, ErrGone) {
		t.Errorf("without its mark: %v", err)
	}
	if err := (Mark{Device: m.Device}).Check(d); !errors.Is(err, ErrGone) {
		t.Errorf("the zero mark: %v", err)
	}
}

func TestAChangeIsTakenWhenItStandsStill(t *testing.T) {
	var s Settler
	now := time.Unix(1e9, 0)
	at := func(after time.Duration, size int64, gone ...string) (still []string, wait time.Duration) {
		m, wait := s.Settled(map[string]Stat{"f": {Size: size}}, gone, now.Add(after))
		return slices.Sorted(maps.Keys(m)), wait
	}
	for _, step := range []struct {
		after time.Duration
		size  int64
		gone  []string
		still []string
		wait  time.Duration
	}{
		{0, 1, nil, nil, StandStill},
		{5 * time.Second, 1, nil, nil, 5 * time.Second},
		{9 * time.Second, 2, []string{"g"}, nil, StandStill},
		{18 * time.Second, 2, []string{"g"}, nil, time.Second},
		{19 * time.Second, 2, []string{"g"}, []string{"f", "g"}, 0},
		{20 * time.Second, 3, nil, nil, StandStill},
		{-time.Hour, 3, nil, nil, StandStill}, // a clock that goes back
		{-time.Hour + StandStill, 3, nil, []string{"f"}, 0},
	} {
		still, wait := at(step.after, step.size, step.gone...)
		if !slices.Equal(still, step.still) || wait != step.wait {
			t.Errorf("after %v: %v stand still, wait %v; want %v, %v", step.after, still, wait, step.still, step.wait)
		}
	}
}

func BenchmarkScanOfTenThousandFiles(b *testing.B) {
	d, dir := rootedtest.Dir(b)
	for i := range 10000 {
		put(b, filepath.Join(dir, fmt.Sprint(i%100), fmt.Sprint(i)), "")
	}
	for b.Loop() {
		if f, err := Scan(d, "docs", nil); err != nil || len(f.Files) != 10000 {
			b.Fatal(len(f.Files), err)
		}
	}
}
