package cloud

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ztm/apps/appstest"
	"ztm/apps/cloud/config"
	"ztm/apps/cloud/mirror"
	"ztm/apps/cloud/state"
	"ztm/apps/rooted"
)

var yes = true

// newMirror is a place that mirrors docs, where changes stand still soon.
func newMirror(t *testing.T, n *appstest.Net, name string, c mirror.Change) *place {
	t.Helper()
	p := newPlace(t, n, name, "alice")
	p.app.still = 20 * time.Millisecond
	c.Path = "docs"
	p.must("POST", "mirrors", c, nil)
	return p
}

var bothWays = mirror.Change{Download: &yes, Upload: &yes}

// writeAt writes a file of the mirror as a person would whose clock says so.
func (p *place) writeAt(path, content string, clock time.Time) {
	p.t.Helper()
	name := p.dir + "-edited"
	if err := errors.Join(os.WriteFile(name, []byte(content), 0o600), os.Chtimes(name, clock, clock), os.Rename(name, p.file("alice", path))); err != nil {
		p.t.Fatal(err)
	}
}

// has waits until a file is at a place with a content; "" is no file.
func (p *place) has(path, content string) {
	p.t.Helper()
	appstest.Eventually(p.t, p.host.Self().Name+" has "+path, func() bool { return p.text(path) == content })
}

func (p *place) text(path string) string {
	b, err := os.ReadFile(p.file("alice", path))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err.Error()
	}
	return string(b)
}

// contents lists what is below docs: names and contents. Names of conflicts are cut.
func (p *place) contents() map[string]int {
	all := map[string]int{}
	filepath.WalkDir(p.file("alice", "docs"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && !strings.HasPrefix(d.Name(), ".ztm") {
			b, _ := os.ReadFile(path)
			all[d.Name()+": "+string(b)]++
		}
		return nil
	})
	return all
}

// inTrash reports whether the trash has a file with a content.
func (p *place) inTrash(content string) bool {
	found := false
	filepath.WalkDir(filepath.Join(p.dir, ".ztm-trash"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			b, _ := os.ReadFile(path)
			found = found || string(b) == content
		}
		return nil
	})
	return found
}

func (p *place) mirror() MirrorState {
	p.t.Helper()
	var list []MirrorState
	p.must("GET", "mirrors", nil, &list)
	if len(list) != 1 {
		p.t.Fatalf("mirrors: %+v", list)
	}
	return list[0]
}

func TestMirrorsGetInStepAndKeepWhatTheyReplace(t *testing.T) {
	var n appstest.Net
	a, b := newMirror(t, &n, "a", bothWays), newMirror(t, &n, "b", bothWays)
	a.write("docs/deep/x", []byte("one"))
	a.write("elsewhere", []byte("private"))
	b.has("docs/deep/x", "one")
	b.write("docs/deep/x", []byte("two"))
	a.has("docs/deep/x", "two")
	if !a.inTrash("one") || b.inTrash("one") {
		t.Error("the old version is not in the trash of the endpoint that got the new one")
	}
	if err := os.Remove(a.file("alice", "docs/deep/x")); err != nil {
		t.Fatal(err)
	}
	b.has("docs/deep/x", "")
	if !b.inTrash("two") {
		t.Error("what was deleted elsewhere is not in the trash")
	}
	if b.text("elsewhere") != "" {
		t.Error("a file outside of the mirror was published")
	}
}

func TestFilesThatWereEditedApartAreBothKeptEverywhere(t *testing.T) {
	appstest.Long(t)
	for name, clocks := range map[string][2]time.Time{
		"clocks that agree": {time.Now(), time.Now()}, "clocks of 1970 and 2038": {time.Unix(1, 0), time.Unix(1<<31+5, 0)}, "of 2038 and 1970": {time.Unix(1<<31+5, 0), time.Unix(1, 0)},
	} {
		t.Run(name, func(t *testing.T) { editedApart(t, clocks) })
	}
}

// editedApart has two edit a file apart, and meet, with the times that their clocks give it.
func editedApart(t *testing.T, clocks [2]time.Time) {
	var n appstest.Net
	a, b := newMirror(t, &n, "a", bothWays), newMirror(t, &n, "b", bothWays)
	a.write("docs/x.txt", []byte("before"))
	b.has("docs/x.txt", "before")
	a.host.SetOnline(false)
	a.writeAt("docs/x.txt", "from a", clocks[0])
	b.writeAt("docs/x.txt", "from b", clocks[1])
	for _, p := range []*place{a, b} {
		appstest.Eventually(t, "it is published", func() bool { return p.files("docs&offline=1")["/users/alice/docs/x.txt"].State == state.Synced })
	}
	a.host.SetOnline(true)
	for _, p := range []*place{a, b} {
		p.must("GET", "files?path=docs", nil, nil)
	}
	appstest.Eventually(t, "both have both", func() bool {
		x, y := a.contents(), b.contents()
		both := ""
		for name := range x {
			both += name
		}
		return len(x) == 2 && fmt.Sprint(x) == fmt.Sprint(y) && strings.Contains(both, "from a") && strings.Contains(both, "from b")
	})
}

func TestADownloadMirrorKeepsWhatWasEditedHere(t *testing.T) {
	var n appstest.Net
	a, b := newMirror(t, &n, "a", bothWays), newMirror(t, &n, "b", mirror.Change{Download: &yes})
	a.write("docs/x.txt", []byte("one"))
	b.has("docs/x.txt", "one")
	b.write("docs/x.txt", []byte("mine"))
	appstest.Eventually(t, "the edit is seen", func() bool { return b.files("docs")["/users/alice/docs/x.txt"].State == state.Changed })
	a.write("docs/x.txt", []byte("three"))
	b.has("docs/x.txt", "three")
	kept := false
	for name := range b.contents() {
		kept = kept || strings.Contains(name, ".conflict-") && strings.HasSuffix(name, ": mine")
	}
	if !kept || a.text("docs/x.txt") != "three" {
		t.Errorf("b has %v, a %q", b.contents(), a.text("docs/x.txt"))
	}
}

func TestAFileThatALossOfPowerCutIsFetchedAgainAndNeverPublished(t *testing.T) {
	appstest.Long(t)
	var n appstest.Net
	a, b := newMirror(t, &n, "a", bothWays), newMirror(t, &n, "b", bothWays)
	cut := map[string]string{"docs/empty": "", "docs/short": "on"} // what was on the disk
	for path := range cut {
		a.write(path, []byte("one"))
	}
	for path := range cut {
		b.has(path, "one")
		appstest.Eventually(t, "b knows that it has it", func() bool { return b.files("docs")["/users/alice/"+path].State == state.Synced })
	}
	b.stop()
	for path, left := range cut {
		name := b.file("alice", path)
		st, err := os.Stat(name)
		if err == nil {
			err = errors.Join(os.WriteFile(name, []byte(left), 0o600), os.Chtimes(name, time.Time{}, st.ModTime()))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	b.start()
	for path := range cut {
		b.has(path, "one")
		if f := a.files("docs")["/users/alice/"+path]; f.State != state.Synced || a.text(path) != "one" || a.inTrash("one") {
			t.Errorf("at the other it is %+v, %q", f, a.text(path))
		}
	}
}

func TestADirectoryThatIsNotTheMirrorsDeletesNothing(t *testing.T) {
	var n appstest.Net
	a, b := newMirror(t, &n, "a", bothWays), newMirror(t, &n, "b", bothWays)
	a.write("docs/x", []byte("one"))
	b.has("docs/x", "one")
	docs := a.file("alice", "docs")
	if err := errors.Join(os.Rename(docs, docs+"-away"), os.Mkdir(docs, 0o755)); err != nil { // as where a disk is not mounted
		t.Fatal(err)
	}
	a.app.mu.Lock()
	m := a.app.mirrors["/users/alice/docs"]
	a.app.mu.Unlock()
	m.Look()
	appstest.Eventually(t, "it says so", func() bool { return strings.Contains(a.mirror().Error, mirror.ErrGone.Error()) })
	if s := a.files("docs")["/users/alice/docs/x"]; s.State != state.Missing || b.text("docs/x") != "one" {
		t.Errorf("the file is %+v, and there %q", s, b.text("docs/x"))
	}
	if err := errors.Join(os.Remove(docs), os.Rename(docs+"-away", docs)); err != nil {
		t.Fatal(err)
	}
	m.Look()
	appstest.Eventually(t, "it goes on", func() bool { return a.mirror().Error == "" })
	if a.inTrash("one") || b.inTrash("one") {
		t.Error("something was replaced")
	}
}

func TestManyDeletionsWaitForAPerson(t *testing.T) {
	var n appstest.Net
	a, b := newMirror(t, &n, "a", bothWays), newMirror(t, &n, "b", bothWays)
	for i := range 20 {
		path := fmt.Sprintf("docs/%d", i)
		if i < 15 {
			path = fmt.Sprintf("docs/many/%d", i)
		}
		a.write(path, []byte(fmt.Sprint(i)))
	}
	appstest.Eventually(t, "the other has them", func() bool { return len(b.contents()) == 20 })
	if err := os.Rename(a.file("alice", "docs/many"), a.file("alice", "elsewhere")); err != nil { // all in one moment
		t.Fatal(err)
	}
	appstest.Eventually(t, "they are held", func() bool { return len(a.mirror().Held) == 15 })
	if len(b.contents()) != 20 {
		t.Errorf("the other has %d", len(b.contents()))
	}
	a.must("POST", "mirrors", mirror.Change{Path: "docs", Confirm: true}, nil)
	appstest.Eventually(t, "the other asks, too", func() bool { return len(b.mirror().Held) == 15 && len(a.mirror().Held) == 0 })
	if len(b.contents()) != 20 {
		t.Errorf("the other has %d", len(b.contents()))
	}
	b.must("POST", "mirrors", mirror.Change{Path: "docs", Confirm: true}, nil)
	appstest.Eventually(t, "they are deleted", func() bool { return len(b.contents()) == 5 })
	if !b.inTrash("3") {
		t.Error("they are not in the trash")
	}
}

func TestALostIndexIsMadeAnewWithoutConflicts(t *testing.T) {
	var n appstest.Net
	a, b := newMirror(t, &n, "a", bothWays), newMirror(t, &n, "b", bothWays)
	a.write("docs/x", []byte("one"))
	b.has("docs/x", "one")
	c := newPlace(t, &n, "c", "alice") // the files of b, and nothing else of it
	if err := os.CopyFS(filepath.Join(c.dir, "users"), os.DirFS(filepath.Join(b.dir, "users"))); err != nil {
		t.Fatal(err)
	}
	c.app.still = 20 * time.Millisecond
	c.must("POST", "mirrors", mirror.Change{Path: "docs", Download: &yes, Upload: &yes}, nil)
	appstest.Eventually(t, "it is in step", func() bool { return c.files("docs")["/users/alice/docs/x"].State == state.Synced })
	for _, p := range []*place{a, b, c} {
		if got := p.contents(); len(got) != 1 || p.inTrash("one") {
			t.Errorf("%s has %v", p.host.Self().Name, got)
		}
	}
}

func TestAMirrorIsMadeAndEndedAndSaysWhatItWouldDo(t *testing.T) {
	var n appstest.Net
	a := newPlace(t, &n, "a", "alice")
	a.write("docs/x", []byte("x"))
	a.write("docs/x.tmp", []byte("x"))
	exclude, one, million := mirror.Patterns{"*.tmp"}, int64(1), int64(1e6)
	var s MirrorState
	a.must("POST", "mirrors", mirror.Change{Path: "docs", Upload: &yes, Exclude: &exclude, DryRun: true}, &s)
	if len(s.Plan) != 1 || s.Plan[0] != "publish /users/alice/docs/x" || len(a.files("docs&offline=1")) != 2 {
		t.Errorf("%+v", s)
	}
	for _, c := range []mirror.Change{
		{Path: "docs"}, {Path: "/", Upload: &yes}, {Path: "/users/bob/x", Upload: &yes}, {Path: "docs", Upload: &yes, Exclude: &mirror.Patterns{"a//b"}},
		{Path: "docs", Download: &yes, Include: &mirror.Patterns{"!a"}}, {Path: "docs", Download: &yes, Limit: &one}, {Path: "docs", Upload: &yes, Limit: &million},
	} {
		if err := a.call("POST", "mirrors", c, nil); err == nil {
			t.Errorf("%+v was taken", c)
		}
	}
	a.must("POST", "mirrors", mirror.Change{Path: "docs", Upload: &yes}, nil)
	for _, path := range []string{"docs/below", ""} {
		if err := a.call("POST", "mirrors", mirror.Change{Path: path, Upload: &yes}, nil); err == nil {
			t.Errorf("a mirror %q beside another one was taken", path)
		}
	}
	no := false
	a.must("POST", "mirrors", mirror.Change{Path: "docs", Upload: &no}, nil)
	var list []MirrorState
	if a.must("GET", "mirrors", nil, &list); len(list) != 0 {
		t.Errorf("%+v", list)
	}
}

func TestWhatIsNotHereWhenAMirrorIsMadeWasNotDeleted(t *testing.T) {
	var n appstest.Net
	a := newPlace(t, &n, "a", "alice")
	a.app.still = 20 * time.Millisecond
	b := newMirror(t, &n, "b", bothWays)
	a.publish("docs/x", []byte("one"))
	b.has("docs/x", "one")
	appstest.Eventually(t, "the other copy is known", func() bool { return a.files("docs")["/users/alice/docs/x"].Sources == 2 })
	other := a.dir + "-other"
	a.must("PATCH", "config", config.Change{LocalDir: &other}, nil)
	a.dir = other
	c := bothWays
	c.Path, c.DryRun = "docs", true
	var would MirrorState
	a.must("POST", "mirrors", c, &would)
	if len(would.Plan) != 1 || would.Plan[0] != "fetch /users/alice/docs/x" {
		t.Errorf("a dry run says %v", would.Plan)
	}
	c.DryRun = false
	a.must("POST", "mirrors", c, nil)
	a.has("docs/x", "one")
	if b.text("docs/x") != "one" {
		t.Error("it was deleted at the other")
	}
}

func TestADirectoryInPlaceOfAFileIsNotWithdrawnWithIt(t *testing.T) {
	var n appstest.Net
	a := newPlace(t, &n, "a", "alice")
	a.publish("x", []byte("file"))
	if err := os.Remove(a.file("alice", "x")); err != nil {
		t.Fatal(err)
	}
	a.publish("x/y", []byte("below"))
	if err := (mirrored{App: a.app}).Unpublish("x"); err != nil {
		t.Fatal(err)
	}
	for path, gone := range map[string]bool{"x": true, "x/y": false} {
		if k, err := a.app.index.Get("alice", path); err != nil || k.Deleted != gone {
			t.Errorf("%s: %+v, %v", path, k, err)
		}
	}
}

// on has the app take its directory for one on a disk.
func (p *place) on(disk rooted.Disk) {
	p.app.treeMu.Lock()
	defer p.app.treeMu.Unlock()
	p.app.disk = &disk
}

func TestAMirrorOnTheFlashOfARouterIsRefusedUnlessItsDirectoryWasChosen(t *testing.T) {
	var n appstest.Net
	a := newPlace(t, &n, "a", "alice")
	none, home := "", t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("USERPROFILE", home)
	for _, tt := range []struct {
		disk rooted.Disk
		dir  *string
		ok   bool
	}{
		{rooted.Disk{Size: 12 << 20}, &none, true},
		{rooted.Disk{Flash: true, Size: 12 << 20}, &none, false},
		{rooted.Disk{Flash: true, Size: 12 << 20}, &a.dir, true},
	} {
		a.on(tt.disk)
		nowhere := filepath.Join(t.TempDir(), "other")
		a.must("PATCH", "config", config.Change{LocalDir: &nowhere}, nil) // so that it is opened anew
		a.must("PATCH", "config", config.Change{LocalDir: tt.dir}, nil)
		err := a.call("POST", "mirrors", mirror.Change{Path: fmt.Sprint("docs", *tt.dir == "", tt.disk.Flash), Upload: &yes}, nil)
		if (err == nil) != tt.ok || err != nil && !strings.Contains(err.Error(), "--local-dir") {
			t.Errorf("%+v in %q: %v", tt.disk, *tt.dir, err)
		}
	}
}

func TestSmallFlashHasNoTrash(t *testing.T) {
	for _, tt := range []struct {
		disk rooted.Disk
		kept bool
	}{{rooted.Disk{Flash: true, Size: 63 << 20}, false}, {rooted.Disk{Flash: true, Size: 64 << 20}, true}, {rooted.Disk{Size: 1 << 20}, true}} {
		var n appstest.Net
		a := newPlace(t, &n, "a", "alice")
		b := n.Join("b", "alice")
		p := &place{t: t, host: b, dir: filepath.Join(t.TempDir(), "b")}
		p.start()
		p.on(tt.disk)
		p.app.still = 20 * time.Millisecond
		p.must("PATCH", "config", config.Change{LocalDir: &p.dir}, nil)
		both := bothWays
		both.Path = "docs"
		p.must("POST", "mirrors", both, nil)
		a.publish("docs/x", []byte("one"))
		p.has("docs/x", "one")
		a.publish("docs/x", []byte("two"))
		p.has("docs/x", "two")
		if p.inTrash("one") != tt.kept {
			t.Errorf("on %+v the old version is kept: %v", tt.disk, !tt.kept)
		}
		a.must("POST", "unpublish", Named{Path: "docs/x"}, nil)
		p.has("docs/x", "")
		if p.inTrash("two") != tt.kept {
			t.Errorf("on %+v what is deleted is kept: %v", tt.disk, !tt.kept)
		}
	}
}

func TestASelectiveMirrorKeepsInStepWhatSomebodyHasFetched(t *testing.T) {
	var n appstest.Net
	a := newPlace(t, &n, "a", "alice")
	a.publish("docs/wanted", []byte("one"))
	a.publish("docs/other", []byte("one"))
	b := newMirror(t, &n, "b", mirror.Change{Download: &yes, Selective: &yes})
	b.wants("/users/alice/docs/wanted", []byte("one"))
	a.publish("docs/other", []byte("two"))
	a.publish("docs/wanted", []byte("two"))
	b.has("docs/wanted", "two")
	a.publish("docs/more", []byte("two"))
	a.publish("docs/wanted", []byte("three"))
	b.has("docs/wanted", "three")
	for _, path := range []string{"other", "more"} {
		if f := b.files("docs")["/users/alice/docs/"+path]; f.State != state.Missing {
			t.Errorf("%s is %+v", path, f)
		}
	}
	if s := b.mirror(); !s.Selective || s.Error != "" {
		t.Errorf("the mirror is %+v", s)
	}
}

func TestAMirrorFetchesWhatItIncludesAtItsLimit(t *testing.T) {
	var n appstest.Net
	a := newPlace(t, &n, "a", "alice")
	for _, path := range []string{"docs/deep/x.pdf", "docs/deep/x.raw", "docs/keep/all/y", "docs/draft.pdf"} {
		a.publish(path, []byte(path))
	}
	limit, began := int64(64<<10), time.Now()
	a.publish("docs/large.pdf", random(128<<10))
	b := newMirror(t, &n, "b", mirror.Change{Download: &yes, Include: &mirror.Patterns{"*.pdf", "/keep/"}, Exclude: &mirror.Patterns{"draft*"}, Limit: &limit})
	b.has("docs/deep/x.pdf", "docs/deep/x.pdf")
	b.has("docs/keep/all/y", "docs/keep/all/y")
	a.publish("docs/later.pdf", []byte("later"))
	b.has("docs/later.pdf", "later")
	if took := time.Since(began); took < 1900*time.Millisecond {
		t.Errorf("128 KiB and more at 64 KiB/s took %v", took)
	}
	if got := b.contents(); len(got) != 4 {
		t.Errorf("it has %d files", len(got))
	}
	if s := b.mirror(); s.Limit != limit || len(s.Include) != 2 {
		t.Errorf("the mirror is %+v", s)
	}
}
