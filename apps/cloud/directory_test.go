package cloud

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ztm/apps/appstest"
	"ztm/apps/cloud/mirror"
	"ztm/apps/cloud/state"
)

func (p *place) mkdir(path string) {
	p.t.Helper()
	if err := os.MkdirAll(p.file("alice", path), 0o700); err != nil {
		p.t.Fatal(err)
	}
}

// rm removes something at once: a scan while its parts go could find a directory with nothing in it.
func (p *place) rm(path string) {
	p.t.Helper()
	gone := p.dir + "-gone"
	if err := errors.Join(os.Rename(p.file("alice", path), gone), os.RemoveAll(gone)); err != nil {
		p.t.Fatal(err)
	}
}

func (p *place) isDir(path string) bool {
	info, err := os.Lstat(p.file("alice", path))
	return err == nil && info.IsDir()
}

// hasDir waits until a directory is at a place, or is not.
func (p *place) hasDir(path string, want bool) {
	p.t.Helper()
	appstest.Eventually(p.t, fmt.Sprint(p.host.Self().Name, " has the directory ", path, ": ", want), func() bool { return p.isDir(path) == want })
}

// known waits until a path is, or is not, among what an endpoint lists, in a state.
func (p *place) known(path string, want state.State) {
	p.t.Helper()
	appstest.Eventually(p.t, fmt.Sprintf("%s lists %s as %q", p.host.Self().Name, path, want), func() bool {
		return p.files("docs&offline=1")["/users/alice/"+path].State == want
	})
}

func TestAnEmptyDirectoryIsMirroredAndGoesWhereItIsRemoved(t *testing.T) {
	var n appstest.Net
	a, b := newMirror(t, &n, "a", bothWays), newMirror(t, &n, "b", bothWays)
	a.mkdir("docs/repo/refs")
	a.write("docs/repo/HEAD", []byte("ref"))
	b.hasDir("docs/repo/refs", true)
	b.has("docs/repo/HEAD", "ref")
	for _, p := range []*place{a, b} {
		p.known("docs/repo/refs", state.Synced)
	}
	if got := b.files("docs&offline=1"); len(got) != 2 || got["/users/alice/docs/repo/refs"].Size != 0 {
		t.Errorf("it lists %+v", got)
	}
	a.rm("docs/repo")
	b.hasDir("docs/repo", false)
	a.write("docs/last", []byte("x")) // what comes after it shows that nothing brings the directories back
	b.has("docs/last", "x")
	if b.isDir("docs/repo") || a.isDir("docs/repo") {
		t.Error("a directory that was removed is there again")
	}
}

func TestADirectoryThatIsRemovedElsewhereKeepsWhatIsInIt(t *testing.T) {
	var n appstest.Net
	exclude := mirror.Patterns{"*.tmp"}
	out := mirror.Change{Download: &yes, Upload: &yes, Exclude: &exclude}
	a, b := newMirror(t, &n, "a", bothWays), newMirror(t, &n, "b", out)
	a.mkdir("docs/d")
	b.hasDir("docs/d", true)
	b.known("docs/d", state.Synced)
	b.write("docs/d/left.tmp", []byte("mine")) // which b does not publish
	a.known("docs/d", state.Synced)
	a.rm("docs/d")
	a.write("docs/after", []byte("x"))
	b.has("docs/after", "x")
	b.known("docs/d", "")
	if b.text("docs/d/left.tmp") != "mine" {
		t.Error("what was in the directory is gone")
	}
	a.write("docs/more", []byte("x"))
	b.has("docs/more", "x")
	if a.isDir("docs/d") {
		t.Error("the directory came back, though nothing in it is published")
	}
}

func TestADirectoryStaysWhereItIsStillMeantWhenItsLastFileGoes(t *testing.T) {
	var n appstest.Net
	a, b := newMirror(t, &n, "a", bothWays), newMirror(t, &n, "b", bothWays)
	a.write("docs/d/x", []byte("one"))
	b.has("docs/d/x", "one")
	if err := os.Remove(a.file("alice", "docs/d/x")); err != nil {
		t.Fatal(err)
	}
	b.has("docs/d/x", "")
	b.known("docs/d", state.Synced)
	if !b.isDir("docs/d") || !a.isDir("docs/d") {
		t.Error("the directory is gone, which nobody removed")
	}
	a.write("docs/d/y", []byte("two")) // it is not empty any longer, and stays what it is
	b.has("docs/d/y", "two")
	a.known("docs/d", state.Synced)
}

func TestAFileAndADirectoryOfOneNameLoseNothing(t *testing.T) {
	var n appstest.Net
	a, b := newMirror(t, &n, "a", bothWays), newMirror(t, &n, "b", bothWays)
	a.write("docs/x", []byte("file"))
	b.has("docs/x", "file")
	a.rm("docs/x")
	a.mkdir("docs/x")
	b.hasDir("docs/x", true)
	if !b.inTrash("file") {
		t.Error("the file that made way is not in the trash")
	}
	b.known("docs/x", state.Synced)
	a.rm("docs/x")
	a.write("docs/x", []byte("file again"))
	b.has("docs/x", "file again")
}

func TestAFileThatWasEditedGoesAsideForADirectory(t *testing.T) {
	var n appstest.Net
	a, b := newMirror(t, &n, "a", bothWays), newMirror(t, &n, "b", bothWays)
	a.write("docs/x", []byte("before"))
	b.has("docs/x", "before")
	b.known("docs/x", state.Synced)
	b.app.mirrors["/users/alice/docs"].stop()
	b.write("docs/x", []byte("edited"))
	a.rm("docs/x")
	a.mkdir("docs/x")
	a.known("docs/x", state.Synced)
	b.files("docs") // hears of it
	b.must("POST", "mirrors", mirror.Change{Path: "docs", Download: &yes, Upload: &yes}, nil)
	for _, p := range []*place{a, b} {
		appstest.Eventually(t, "the edit is beside the directory", func() bool {
			for what := range p.contents() {
				if strings.HasPrefix(what, "x.conflict-") && strings.HasSuffix(what, ": edited") {
					return true
				}
			}
			return false
		})
		p.hasDir("docs/x", true)
	}
}

func TestADirectoryWithSomethingInItIsNotReplacedByAFile(t *testing.T) {
	var n appstest.Net
	exclude := mirror.Patterns{"*.tmp"}
	a, b := newMirror(t, &n, "a", bothWays), newMirror(t, &n, "b", mirror.Change{Download: &yes, Upload: &yes, Exclude: &exclude})
	a.mkdir("docs/d")
	b.hasDir("docs/d", true)
	b.known("docs/d", state.Synced)
	b.write("docs/d/left.tmp", []byte("mine"))
	a.rm("docs/d")
	a.write("docs/d", []byte("file"))
	appstest.Eventually(t, "b says that it cannot", func() bool {
		var s Status
		b.must("GET", "status", nil, &s)
		return len(s.Problems) > 0
	})
	if b.text("docs/d/left.tmp") != "mine" {
		t.Error("what was in the directory is gone")
	}
}

func TestADirectoryIsNotMadeThroughALink(t *testing.T) {
	var n appstest.Net
	a, b := newPlace(t, &n, "a", "alice"), newPlace(t, &n, "b", "alice")
	a.app.still, b.app.still = 20e6, 20e6
	outside := t.TempDir()
	b.mkdir("docs")
	for _, link := range []string{"d", "up"} {
		if err := os.Symlink(outside, b.file("alice", "docs/"+link)); err != nil {
			t.Skip(err)
		}
	}
	a.mkdir("docs/d")
	a.mkdir("docs/up/inner")
	for _, p := range []*place{a, b} {
		p.must("POST", "mirrors", mirror.Change{Path: "docs", Download: &yes, Upload: &yes}, nil)
	}
	a.write("docs/after", []byte("x"))
	b.has("docs/after", "x")
	if left, _ := filepath.Glob(filepath.Join(outside, "*")); len(left) > 0 {
		t.Errorf("%v were made outside", left)
	}
	if info, err := os.Lstat(b.file("alice", "docs/d")); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link is %v, %v", info, err)
	}
	a.rm("docs/d")
	a.write("docs/more", []byte("x"))
	b.has("docs/more", "x")
	if _, err := os.Lstat(b.file("alice", "docs/d")); err != nil {
		t.Errorf("the link is gone: %v", err)
	}
}

func TestADirectoryIsSharedAndUnsharedAsAFileIs(t *testing.T) {
	var n appstest.Net
	a, bob := newMirror(t, &n, "a", bothWays), newPlace(t, &n, "b", "bob")
	a.mkdir("docs/d")
	a.known("docs/d", state.Synced)
	if got := bob.files("/users/alice"); len(got) != 0 {
		t.Errorf("bob knows %v, which is not shared with him", got)
	}
	a.must("POST", "share", ShareChange{Path: "docs", Add: []string{"bob"}}, nil)
	if got := bob.files("/users/alice"); len(got) != 1 || !got["/users/alice/docs/d"].Directory {
		t.Errorf("bob knows %+v, which is shared with him", got)
	}
	if p, err := bob.download("/users/alice/docs"); err != nil || len(p.Failed) > 0 || p.Done != 1 {
		t.Errorf("bob's download is %+v, %v", p, err)
	}
	if info, err := os.Stat(bob.file("alice", "docs/d")); err != nil || !info.IsDir() {
		t.Errorf("bob has %v, %v", info, err)
	}
	a.must("POST", "share", ShareChange{Path: "docs", Remove: []string{"bob"}}, nil)
	if got := bob.files("/users/alice"); len(got) != 0 {
		t.Errorf("bob knows %v, which is not shared any longer", got)
	}
}

func TestADirectoryIsErasedOnlyWhereItIsEmpty(t *testing.T) {
	var n appstest.Net
	a, bob := newMirror(t, &n, "a", bothWays), newPlace(t, &n, "b", "bob")
	a.mkdir("docs/d")
	a.mkdir("docs/full")
	a.known("docs/full", state.Synced)
	a.must("POST", "share", ShareChange{Path: "docs", Add: []string{"bob"}}, nil)
	bob.files("/users/alice")
	if _, err := bob.download("/users/alice/docs"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(bob.file("alice", "docs/full/mine"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	bob.call("POST", "erase", Named{Path: "/users/alice/docs"}, nil)
	if _, err := os.Stat(bob.file("alice", "docs/d")); err == nil {
		t.Error("the empty directory is there")
	}
	if _, err := os.Stat(bob.file("alice", "docs/full/mine")); err != nil {
		t.Errorf("what was in the other one is gone: %v", err)
	}
}
