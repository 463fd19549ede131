package trash

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"ztm/apps/appstest"
	"ztm/apps/rooted"
	"ztm/apps/rooted/rootedtest"
)

func TestMain(m *testing.M) { os.Exit(appstest.Run(m)) }

func keep(t *testing.T, d *rooted.Dir, dir, path, text string, now time.Time) {
	t.Helper()
	at := filepath.Join(dir, path)
	if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o755), os.WriteFile(at, []byte(text), 0o600)); err != nil {
		t.Fatal(err)
	}
	p, err := rooted.LocalPath(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := Keep(d, p, now); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(at); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is still there: %v", path, err)
	}
}

func TestWhatWasKeptComesBack(t *testing.T) {
	d, dir := rootedtest.Dir(t)
	now := time.Date(2026, 11, 29, 1, 2, 3, 0, time.UTC)
	for _, text := range []string{"first", "second", "third"} { // within one second
		keep(t, d, dir, "a/b/c.txt", text, now)
	}
	keep(t, d, dir, "top", "top", now.Add(time.Hour))
	list, err := List(d)
	if err != nil || len(list) != 4 || list[0].Path.String() != "top" || list[0].Size != 3 {
		t.Fatalf("%+v, %v", list, err)
	}
	if err := Restore(d, list[1]); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "a/b/c.txt")); string(b) != "first" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
	if err := Restore(d, list[2]); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over another file: %v", err)
	}
	if list, err := List(d); len(list) != 3 || err != nil {
		t.Errorf("%+v, %v", list, err)
	}
	names, err := d.Names()
	if len(names) != 1 || err != nil {
		t.Errorf("the trash is among the files: %v, %v", names, err)
	}
}

func TestTheOldestGoesFirst(t *testing.T) {
	d, dir := rootedtest.Dir(t)
	now := time.Date(2026, 11, 29, 1, 2, 3, 0, time.UTC)
	for i, name := range []string{"old", "middle", "new"} {
		keep(t, d, dir, name, "0123456789", now.Add(time.Duration(i-2)*20*24*time.Hour))
	}
	left := func() (names []string) {
		list, err := List(d)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range list {
			names = append(names, i.Path.String())
		}
		return names
	}
	if err := Prune(d, now, 1000); err != nil || len(left()) != 2 {
		t.Errorf("after thirty days there is %v, %v", left(), err)
	}
	if err := Prune(d, now, 15); err != nil || len(left()) != 1 || left()[0] != "new" {
		t.Errorf("in 15 bytes there is %v, %v", left(), err)
	}
	empty, _ := rootedtest.Dir(t)
	if err := Prune(empty, now, 0); err != nil {
		t.Error(err)
	}
}

func TestALinkForATrashIsNotFollowed(t *testing.T) {
	d, dir := rootedtest.Dir(t)
	outside := t.TempDir()
	if err := os.Symlink(outside, filepath.Join(dir, ".ztm-trash")); err != nil {
		t.Skip(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "f"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	p, _ := rooted.LocalPath("f")
	if err := Keep(d, p, time.Now()); !errors.Is(err, rooted.ErrLink) {
		t.Error(err)
	}
	if l, err := os.ReadDir(outside); len(l) > 0 || err != nil {
		t.Errorf("outside there is %v, %v", l, err)
	}
}
