package rooted

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestOnlyADirectoryWithNothingInItIsRemovedAsOne(t *testing.T) {
	d, dir := root(t)
	for _, err := range []error{
		os.WriteFile(filepath.Join(dir, "file"), nil, 0o600),
		os.MkdirAll(filepath.Join(dir, "full", ".ztm-own"), 0o700), os.Mkdir(filepath.Join(dir, "empty"), 0o700),
		os.Symlink("empty", filepath.Join(dir, "link")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, goes := range map[string]bool{"file": false, "full": false, "link": false, "none": false, "empty": true} {
		if name == "full" {
			sub, err := d.Sub(Name{name})
			if err != nil {
				t.Fatal(err)
			}
			if is, err := sub.Empty(); is || err != nil {
				t.Errorf("with a file of ours in it, it is empty: %v, %v", is, err)
			}
			sub.Close()
		}
		if err := d.RemoveEmpty(Name{name}); (err == nil) != goes {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Lstat(filepath.Join(dir, name)); name != "none" && errors.Is(err, os.ErrNotExist) != goes {
			t.Errorf("%s is gone: %v", name, !goes)
		}
	}
}

func TestADirectoryIsMadeWhereNothingElseHasItsName(t *testing.T) {
	d, dir := root(t)
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "file"), nil, 0o600), os.Symlink(t.TempDir(), filepath.Join(dir, "link"))); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		made bool
	}{{"new", true}, {"new", true}, {"file", false}, {"link", false}} {
		if err := d.Ensure(Name{tt.name}, 0o700); (err == nil) != tt.made {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	if err := d.Ensure(Name{"NEW"}, 0o700); err == nil { // a disk that ignores case has one of another name
		if _, err := os.Lstat(filepath.Join(dir, "NEW")); err != nil {
			t.Errorf("a directory that was made is not there: %v", err)
		}
	} else if !errors.Is(err, ErrNotHere) {
		t.Error(err)
	}
}
