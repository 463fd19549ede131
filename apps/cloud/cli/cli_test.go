package cli

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ztm/apps/appstest"
	"ztm/apps/cloud"
	"ztm/apps/cloud/load"
)

func TestMain(m *testing.M) { os.Exit(appstest.Run(m)) }

// place is an endpoint with a cloud and a command line.
type place struct {
	t   *testing.T
	c   *appstest.Console
	dir string
}

func newPlace(t *testing.T, n *appstest.Net, name, user string) *place {
	t.Helper()
	h := n.Join(name, user)
	h.Start(t, cloud.Name, cloud.New)
	p := &place{t, &appstest.Console{Host: h}, filepath.Join(t.TempDir(), name)}
	p.want("config", "--local-dir", p.dir)
	appstest.Eventually(t, "it is seen", func() bool { return len(h.Self().Offers) > 0 })
	return p
}

// run runs `ztm cloud` with arguments.
func (p *place) run(args ...string) appstest.Result {
	return p.c.Capture(func() error { return appstest.RunCommand(commands(p.c).Top[0], args...) })
}

func (p *place) want(args ...string) appstest.Result {
	p.t.Helper()
	r := p.run(args...)
	if r.Failure != "" || r.Status != 0 {
		p.t.Fatalf("ztm cloud %s: %+v", strings.Join(args, " "), r)
	}
	return r
}

func write(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestADirectoryIsUploadedAndTheSecondCommandIsPrinted(t *testing.T) {
	var n appstest.Net
	alice, bob := newPlace(t, &n, "a", "alice"), newPlace(t, &n, "b", "bob")
	src := t.TempDir()
	write(t, filepath.Join(src, "one.txt"), "1")
	write(t, filepath.Join(src, "deep/er/two.txt"), "2")
	r := alice.want("upload", "--share", "bob", src, "album")
	_, said, _ := strings.Cut(r.Err, "ztm cloud download ")
	line, said, _ := strings.Cut(said, "\n")
	if line != "/users/alice/album" {
		t.Fatalf("it says %q", r.Err)
	}
	if r := bob.want("download", line); r.Err != "Fetched to "+filepath.Join(bob.dir, "users/alice/album")+"\n" {
		t.Errorf("the second command says %q", r.Err)
	}
	for path, want := range map[string]string{"one.txt": "1", "deep/er/two.txt": "2"} {
		if b, err := os.ReadFile(filepath.Join(bob.dir, "users/alice/album", path)); err != nil || string(b) != want {
			t.Errorf("%s: %q, %v", path, b, err)
		}
	}
	if r := bob.want("ls", "/users/alice"); !strings.Contains(r.Out, "/users/alice/album/deep/er/two.txt  synced") {
		t.Errorf("ls prints\n%s", r.Out)
	}
	// What is published there later is shared as well.
	_, share, _ := strings.Cut(said, "ztm cloud share ")
	if share != "/users/alice/album --add-user USER\n" {
		t.Fatalf("it says %q", said)
	}
	alice.want("share", "--add-user", "bob", "/users/alice/album")
	alice.want("upload", write(t, filepath.Join(src, "three.txt"), "3"), "album/three.txt")
	if r := bob.want("download", "-o", "-", "/users/alice/album/three.txt"); r.Out != "3" {
		t.Errorf("download -o - prints %q", r.Out)
	}
}

func TestAFileWhoseTimeCannotBeWrittenIsUploadedWithTheNearest(t *testing.T) {
	alice := newPlace(t, new(appstest.Net), "a", "alice")
	src := write(t, filepath.Join(t.TempDir(), "old.txt"), "old")
	old := time.Date(1960, 1, 1, 0, 0, 0, 0, time.UTC)
	if err := os.Chtimes(src, old, old); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(src); err != nil || !st.ModTime().Equal(old) {
		t.Skipf("this disk has no times before 1970: %v", err)
	}
	alice.want("upload", src, "old.txt")
	if st, err := os.Stat(filepath.Join(alice.dir, "users/alice/old.txt")); err != nil || !st.ModTime().Equal(time.Unix(0, 0)) {
		t.Errorf("%v, %v", st, err)
	}
}

func TestEveryCommandThatRemovesCanTellFirst(t *testing.T) {
	var n appstest.Net
	alice := newPlace(t, &n, "a", "alice")
	alice.want("upload", write(t, filepath.Join(t.TempDir(), "x"), "1"))
	if r := alice.run("erase", "x"); r.Failure == "" {
		t.Error("the last copy was erased")
	}
	for _, args := range [][]string{{"unpublish", "--dry-run", "x"}, {"erase", "--dry-run", "--force", "x"}} {
		if r := alice.want(args...); !strings.Contains(r.Out, "would be done") {
			t.Errorf("%v prints %q", args, r.Out)
		}
	}
	if r := alice.want("ls"); !strings.Contains(r.Out, "/users/alice/x  synced") {
		t.Errorf("after that: %s", r.Out)
	}
	alice.want("unpublish", "x")
	if r := alice.want("ls"); !strings.Contains(r.Out, "/users/alice/x  new") {
		t.Errorf("after unpublish: %s", r.Out)
	}
}

func TestStatusNamesWhatIsNotDoneAndWhatHelps(t *testing.T) {
	var n appstest.Net
	alice, bob := newPlace(t, &n, "a", "alice"), newPlace(t, &n, "b", "bob")
	alice.want("upload", "--share", "bob", write(t, filepath.Join(t.TempDir(), "x"), "1"))
	bob.want("ls")
	os.RemoveAll(filepath.Join(alice.dir, "users"))
	if r := bob.run("download", "/users/alice/x"); r.Status != 1 || !strings.Contains(r.Err, "/users/alice/x") {
		t.Errorf("the download of what is gone: %+v", r)
	}
	if r := bob.want("status"); !strings.Contains(r.Out, "missing since") || !strings.Contains(r.Out, "help: ztm cloud download /users/alice/x") {
		t.Errorf("status prints\n%s", r.Out)
	}
	var s cloud.Status
	if err := json.Unmarshal([]byte(func() string { bob.c.JSON = true; return bob.want("status").Out }()), &s); err != nil || len(s.Problems) != 1 {
		t.Errorf("as JSON: %+v, %v", s, err)
	}
}

func TestAnInterruptedDownloadSaysHowToGoOn(t *testing.T) {
	var n appstest.Net
	alice, bob := newPlace(t, &n, "a", "alice"), newPlace(t, &n, "b", "bob")
	alice.want("upload", "--share", "bob", write(t, filepath.Join(t.TempDir(), "x"), "1"))
	ctx, cancel := context.WithCancel(t.Context())
	var d load.Progress
	k := &client{bob.c}
	if err := k.ask(ctx, "POST", "downloads", cloud.Named{Path: "/users/alice/x"}, &d); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := k.interrupted(d, "/users/alice/x"); err == nil || !strings.Contains(err.Error(), "stays") {
		t.Error(err)
	}
}

func TestPathsThatAnAgentMakesUpHaveSomethingInCommonOrNothing(t *testing.T) {
	for want, paths := range map[string][]string{"": {"a", "b"}, "/users/a": {"/users/a/x", "/users/a/y"}} {
		var results []cloud.Result
		for _, p := range paths {
			results = append(results, cloud.Result{Path: p})
		}
		if got := common(results); got != want {
			t.Errorf("%v: %q", paths, got)
		}
	}
}

func TestALimitHoldsForWhatIsFetchedAndIsShown(t *testing.T) {
	var n appstest.Net
	bob, phone := newPlace(t, &n, "desk", "bob"), newPlace(t, &n, "phone", "bob")
	bob.want("upload", write(t, filepath.Join(t.TempDir(), "big"), strings.Repeat("x", 256<<10)))
	if out := phone.want("config", "--limit-down", "512K").Out; !strings.Contains(out, "512.0 kB/s") {
		t.Error(out)
	}
	began := time.Now()
	phone.want("download", "big")
	if d := time.Since(began); d < 400*time.Millisecond {
		t.Errorf("256 KiB at 512 kB/s took %v", d)
	}
	phone.want("config", "--limit-down", "off")
	bob.want("config", "--limit-up", "512K")
	phone.want("erase", "big")
	began = time.Now()
	phone.want("download", "big")
	if d := time.Since(began); d < 400*time.Millisecond {
		t.Errorf("256 KiB from an endpoint that gives 512 kB/s took %v", d)
	}
	if r := bob.run("config", "--limit-up", "10"); r.Failure == "" {
		t.Error("a limit was taken at which all would stall")
	}
}
