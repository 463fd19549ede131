package tree

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"ztm/apps/appstest"
	"ztm/apps/cloud/trash"
	"ztm/apps/rooted"
)

func TestMain(m *testing.M) { os.Exit(appstest.Run(m)) }

func newTree(t *testing.T) (*Tree, string) {
	t.Helper()
	dir := t.TempDir()
	tr, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tr.Close() })
	return tr, dir
}

func TestTwoThatWriteTheSameContentBothCommitAllOfIt(t *testing.T) {
	for name, move := range map[string]func(*Pending) error{
		"trash": func(p *Pending) error { return p.Trash("u", "d/f", time.Now()) },
		"aside": func(p *Pending) error { _, err := p.SetAside("ep", time.Now()); return err },
	} {
		tr, dir := newTree(t)
		var both []*Pending
		for range 2 {
			p, err := tr.Create("u", "d/f", "key")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(p, "content"); err != nil {
				t.Fatal(err)
			}
			both = append(both, p)
		}
		for i, p := range both {
			err := p.Again()
			switch {
			case err != nil:
			case i > 0:
				err = move(p)
			default:
				err = p.Trash("u", "d/f", time.Now())
			}
			if err == nil {
				err = p.Commit(0o600, time.Time{}, false)
			}
			p.Keep()
			if b, rerr := os.ReadFile(filepath.Join(dir, "users/u/d/f")); err != nil || string(b) != "content" {
				t.Errorf("%s: after commit %d it is %q: %v, %v", name, i, b, err, rerr)
			}
		}
	}
}

func TestWhatSomebodyHasWrittenMeanwhileIsNotMovedAway(t *testing.T) {
	for name, move := range map[string]func(*Pending) error{
		"trash": func(p *Pending) error { return p.Trash("u", "f", time.Now()) },
		"aside": func(p *Pending) error { _, err := p.SetAside("ep", time.Now()); return err },
	} {
		for _, before := range []string{"", "old"} {
			tr, dir := newTree(t)
			file := filepath.Join(dir, "users/u/f")
			write := func(text string) {
				if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, []byte(text), 0o600)); err != nil {
					t.Fatal(err)
				}
			}
			if before != "" {
				write(before)
			}
			p, err := tr.Create("u", "f", "key")
			if err != nil {
				t.Fatal(err)
			}
			write("an edit")
			if err = move(p); err == nil {
				err = p.Commit(0o600, time.Time{}, false)
			}
			p.Keep()
			if b, _ := os.ReadFile(file); !errors.Is(err, rooted.ErrChanged) || string(b) != "an edit" {
				t.Errorf("%s, %q before: %q stands there, %v", name, before, b, err)
			}
		}
	}
}

func TestTheTrashIsLookedThroughOnceAMinute(t *testing.T) {
	tr, dir := newTree(t)
	at := func(name string, now time.Time) {
		file := filepath.Join(dir, "users/u", name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, nil, 0o600), tr.Trash("u", name, now)); err != nil {
			t.Fatal(err)
		}
	}
	left := func(want int) {
		t.Helper()
		if items, err := tr.Trashed(); err != nil || len(items) != want {
			t.Errorf("the trash has %d files, want %d: %v", len(items), want, err)
		}
	}
	begun := time.Now()
	old := begun.Add(trash.MaxAge - time.Second)
	at("first", begun)
	at("second", old)
	at("third", old.Add(prunePause/2)) // the first is too old by now
	left(3)
	at("fourth", old.Add(prunePause))
	left(3)
}

func TestAFileWhereNothingStoodLeavesNothingInTheTrash(t *testing.T) {
	tr, dir := newTree(t)
	p, err := tr.Create("u", "d/f", "key")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(p.Trash("u", "d/f", time.Now()), p.Commit(0o600, time.Time{}, false), p.Keep()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, ".ztm-trash")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("there is a trash: %v", err)
	}
}

func TestWhatIsRestoredIsNotRemovedBefore(t *testing.T) {
	tr, dir := newTree(t)
	file := filepath.Join(dir, "users/u/f")
	put := func(text string) {
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	put("old")
	now := time.Now()
	if err := tr.Trash("u", "f", now.Add(-trash.MaxAge-time.Hour)); err != nil {
		t.Fatal(err)
	}
	// The first change after that time would remove it.
	bin := filepath.Join(dir, ".ztm-trash")
	if list, err := os.ReadDir(bin); err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	put("new")
	items, err := tr.Trashed()
	if err != nil || len(items) != 1 {
		t.Fatal(items, err)
	}
	if err := tr.Restore(items[0], now); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(file); string(b) != "old" {
		t.Errorf("restored is %q, %v", b, err)
	}
	if items, err = tr.Trashed(); err != nil || len(items) != 1 || items[0].Size != 3 {
		t.Errorf("the trash has %+v, %v", items, err)
	}
	// A directory that stands there by now is no earlier content of the file.
	if err := errors.Join(os.Remove(file), os.Mkdir(file, 0o700)); err != nil {
		t.Fatal(err)
	}
	if err := tr.Restore(items[0], now); err == nil {
		t.Error("a directory was moved away")
	}
}

func TestAFileThatIsTouchedAllTheTimeIsReadInNoState(t *testing.T) {
	tr, dir := newTree(t)
	name := filepath.Join(dir, "users", "alice", "x")
	if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o700), os.WriteFile(name, make([]byte, 8<<20), 0o600)); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	stopped := make(chan struct{})
	go func() { // awaited below
		defer close(stopped)
		for at := time.Now(); ctx.Err() == nil; at = at.Add(time.Second) {
			os.Chtimes(name, time.Time{}, at) // the size stays as it is
		}
	}()
	appstest.Eventually(t, "it is seen to change", func() bool {
		_, _, _, err := tr.Sum("alice", "x")
		return errors.Is(err, ErrChanging)
	})
	stop()
	<-stopped
	if _, _, _, err := tr.Sum("alice", "x"); err != nil {
		t.Errorf("when it stands still: %v", err)
	}
}
