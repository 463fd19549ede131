package rooted

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"
)

func root(t *testing.T) (*Dir, string) {
	t.Helper()
	dir := t.TempDir()
	d, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d, dir
}

func create(t *testing.T, d *Dir, key string, replace bool, text string) *Pending {
	t.Helper()
	w, err := d.Create(Name{"f"}, key, replace)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	return w
}

func content(t *testing.T, dir string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "f"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return string(b)
}

func TestAFileHasItsNameWhenItIsComplete(t *testing.T) {
	d, dir := root(t)
	w := create(t, d, "", false, "new")
	if got := content(t, dir); got != "" {
		t.Errorf("before Commit it is %q", got)
	}
	when := time.Unix(1, 0)
	if err := w.Commit(0o640, when, true); err != nil {
		t.Fatal(err)
	}
	info, err := d.Stat(Name{"f"})
	if err != nil || content(t, dir) != "new" || !info.ModTime().Equal(when) || runtime.GOOS != "windows" && info.Mode() != 0o640 {
		t.Errorf("%v, %v", info, err)
	}
	if names, err := d.Names(); len(names) != 1 || err != nil {
		t.Errorf("the directory has %v, %v", names, err)
	}
	if l, err := os.ReadDir(dir); len(l) != 1 || err != nil {
		t.Errorf("the directory has %v, %v", l, err)
	}
}

func TestATakenNameIsNotReplacedUnasked(t *testing.T) {
	d, dir := root(t)
	w := create(t, d, "", false, "second")
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("first"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(0o600, time.Time{}, false); !errors.Is(err, fs.ErrExist) {
		t.Errorf("commit: %v", err)
	}
	if _, err := d.Create(Name{"f"}, "", false); !errors.Is(err, fs.ErrExist) {
		t.Errorf("create: %v", err)
	}
	if err := d.Mkdir(Name{"g"}, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := d.Rename(Name{"g"}, Name{"f"}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("rename: %v", err)
	}
	if got := content(t, dir); got != "first" {
		t.Errorf("it is %q", got)
	}
	if err := d.Rename(Name{"f"}, Name{"h"}); err != nil || content(t, dir) != "" {
		t.Errorf("rename: %v", err)
	}
}

func TestAFileThatChangedMeanwhileIsNotReplaced(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(path string) error
	}{
		{"written", func(p string) error { return os.WriteFile(p, []byte("edited"), 0o600) }},
		{"removed", os.Remove},
		{"a directory now", func(p string) error { return errors.Join(os.Remove(p), os.Mkdir(p, 0o700)) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d, dir := root(t)
			if err := create(t, d, "", false, "first").Commit(0o600, time.Time{}, false); err != nil {
				t.Fatal(err)
			}
			w := create(t, d, "", true, "second")
			if err := tt.change(filepath.Join(dir, "f")); err != nil {
				t.Fatal(err)
			}
			before, _ := d.Stat(Name{"f"})
			if err := w.Commit(0o600, time.Time{}, false); err == nil {
				t.Error("it was replaced")
			}
			after, _ := d.Stat(Name{"f"})
			if (before == nil) != (after == nil) || before != nil && !unchanged(before, after) {
				t.Errorf("it was %v, it is %v", before, after)
			}
		})
	}
}

func TestWhatHasComeIsThereForTheNextAttempt(t *testing.T) {
	d, dir := root(t)
	if err := create(t, d, "hash", true, "first ").Keep(); err != nil {
		t.Fatal(err)
	}
	w := create(t, d, "hash", true, "second")
	if err := w.Commit(0o600, time.Time{}, false); err != nil {
		t.Fatal(err)
	}
	if got := content(t, dir); got != "first second" {
		t.Errorf("it is %q", got)
	}
	if err := create(t, d, "hash", true, "first").Keep(); err != nil {
		t.Fatal(err)
	}
	w = create(t, d, "another hash", true, "other")
	if err := errors.Join(w.Commit(0o600, time.Time{}, false), w.Keep(), w.Discard()); err != nil || content(t, dir) != "other" {
		t.Errorf("with another key: %q, %v", content(t, dir), err)
	}
}

func TestTwoDoNotWriteOneFile(t *testing.T) {
	d, dir := root(t)
	a, b := create(t, d, "hash", true, "aaaa"), create(t, d, "hash", true, "b")
	if err := a.Commit(0o600, time.Time{}, false); err != nil || content(t, dir) != "aaaa" {
		t.Errorf("the first: %q, %v", content(t, dir), err)
	}
	if err := b.Commit(0o600, time.Time{}, false); !errors.Is(err, ErrChanged) {
		t.Errorf("the second: %v", err)
	}
}

func TestANameThatDiffersInCaseIsAnotherFileOrAnError(t *testing.T) {
	d, dir := root(t)
	if err := os.WriteFile(filepath.Join(dir, "F"), []byte("large"), 0o600); err != nil {
		t.Fatal(err)
	}
	w, err := d.Create(Name{"f"}, "", true)
	if err == nil {
		err = w.Commit(0o600, time.Time{}, false)
	}
	if b, _ := os.ReadFile(filepath.Join(dir, "F")); string(b) != "large" {
		t.Errorf("the other file is %q", b)
	}
	if err != nil && !errors.Is(err, ErrNotHere) {
		t.Error(err)
	}
}

func TestOnlyDirectoriesAreRoots(t *testing.T) {
	_, dir := root(t)
	if err := os.WriteFile(filepath.Join(dir, "f"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", filepath.Join(dir, "f"), filepath.Join(dir, "none")} {
		if d, err := Open(name); err == nil {
			d.Close()
			t.Errorf("%q was opened", name)
		}
	}
}

func TestWhatNobodyWouldFindAgainIsNotKept(t *testing.T) {
	d, dir := root(t)
	first, second := create(t, d, "key", true, "one"), create(t, d, "key", true, "two")
	if err := second.Keep(); err != nil {
		t.Fatal(err)
	}
	if err := first.Keep(); err != nil {
		t.Fatal(err)
	}
	if err := create(t, d, "nothing has come of it", true, "").Keep(); err != nil {
		t.Fatal(err)
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) != 1 {
		t.Errorf("there are %v, %v", list, err)
	}
	if w, err := d.Create(Name{"f"}, "key", true); err != nil || w.Discard() != nil {
		t.Fatal(err)
	}
}

func TestWhatNobodyCameBackToIsSwept(t *testing.T) {
	d, dir := root(t)
	long := time.Now().Add(-time.Hour)
	age := func(p *Pending) *Pending {
		if err := os.Chtimes(filepath.Join(dir, p.temp), long, long); err != nil {
			t.Fatal(err)
		}
		return p
	}
	left, busy, fresh := create(t, d, "left", true, "x"), age(create(t, d, "busy", true, "x")), create(t, d, "fresh", true, "x")
	if err := errors.Join(age(left).Keep(), fresh.Keep()); err != nil {
		t.Fatal(err)
	}
	others := []string{".ztm-link.part", "x.part", ".ztm-lock"}
	if err := os.Symlink("x.part", filepath.Join(dir, others[0])); err != nil {
		t.Skip(err)
	}
	for _, name := range others[1:] {
		if err := errors.Join(os.WriteFile(filepath.Join(dir, name), nil, 0o600), os.Chtimes(filepath.Join(dir, name), long, long)); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Sweep(time.Now().Add(-time.Minute)); err != nil {
		t.Fatal(err)
	}
	for name, stays := range map[string]bool{left.temp: false, busy.temp: true, fresh.temp: true, others[0]: true, others[1]: true, others[2]: true} {
		if _, err := os.Lstat(filepath.Join(dir, name)); (err == nil) != stays {
			t.Errorf("%s: %v", name, err)
		}
	}
	busy.Discard()
}
