//go:build unix

package mirror

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"ztm/apps/rooted/rootedtest"
)

func TestAScanFindsDirectoriesInWhichNothingIs(t *testing.T) {
	d, dir := rootedtest.Dir(t)
	var errs []error
	for _, name := range []string{"a/empty", "left/empty", "pictures", "other", "ctl\x01", ".ztm-trash/x"} {
		errs = append(errs, os.MkdirAll(filepath.Join(dir, name), 0o755))
	}
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"ignored/x.tmp", "ours/.ztm-half.part", "full/x"} {
		put(t, filepath.Join(dir, name), "")
	}
	if err := os.Symlink("/etc", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		leave Patterns
		want  []string
	}{
		{Patterns{"*.tmp", "left/"}, []string{"a/empty", "full/x", "other", "pictures"}},
		{Leaving(Patterns{"pictures", "x"}, nil), []string{"full/x", "pictures"}},
		{Leaving(Patterns{"a/"}, nil), []string{"a/empty"}},
	} {
		f, err := Scan(d, "docs", tt.leave)
		if err != nil {
			t.Fatal(err)
		}
		if got := slices.Sorted(maps.Keys(f.Files)); !slices.Equal(got, tt.want) {
			t.Errorf("%q: %q, want %q", tt.leave, got, tt.want)
		}
		for _, full := range []string{"ours", "full"} {
			if !f.Full[full] {
				t.Errorf("%q: nothing is in %s", tt.leave, full)
			}
		}
	}
}

func TestManyEmptyDirectoriesDoNotMakeADeletionOfFilesASmallOne(t *testing.T) {
	list := func(files, gone, dirs, dirsGone int) (all []File) {
		for i := range files + dirs {
			f := File{Path: fmt.Sprint(i), Here: "a", Last: "a", Shared: "a", Known: true, Order: Same}
			if i >= files {
				f.Here, f.Last, f.Shared = Directory, Directory, Directory
			}
			if i < gone || i >= files && i < files+dirsGone {
				f.Here = ""
			}
			all = append(all, f)
		}
		return all
	}
	for _, tt := range []struct {
		files, gone, dirs, dirsGone int
		held                        bool
	}{{20, 11, 1000, 0, true}, {20, 10, 1000, 0, false}, {20, 0, 20, 20, false}, {20, 1, 20, 20, true}, {0, 0, 20, 20, true}, {0, 0, 10, 10, false}} {
		p := Make(both, list(tt.files, tt.gone, tt.dirs, tt.dirsGone), false, false)
		if held := len(p.Held) > 0; held != tt.held || len(p.Held)+len(p.Actions) != tt.gone+tt.dirsGone {
			t.Errorf("%+v: %d are held, %d done", tt, len(p.Held), len(p.Actions))
		}
	}
}

func TestADirectoryWhoseNameDiffersInCaseIsReported(t *testing.T) {
	p := Make(both, []File{
		{Path: "refs", Here: Directory, Last: Directory, Shared: Directory, Known: true, Order: Same},
		{Path: "Refs", Shared: Directory, Known: true, Order: Unknown},
	}, true, false)
	if len(p.Actions) != 1 || p.Actions[0].Step != Report || p.Actions[0].Path != "Refs" {
		t.Errorf("the plan is %+v", p)
	}
}
