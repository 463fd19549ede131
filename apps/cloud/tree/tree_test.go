package tree

import (
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"ztm/apps/appstest"
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
			var err error
			if i > 0 {
				err = move(p)
			} else {
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
