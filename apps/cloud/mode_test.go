package cloud

import (
	"os"
	"runtime"
	"testing"
	"time"

	"ztm/apps/appstest"
	"ztm/apps/cloud/config"
	"ztm/apps/cloud/index"
	"ztm/apps/cloud/state"
)

// mode is the mode of a file of docs; 0 is no file.
func (p *place) mode(path string) os.FileMode {
	st, err := os.Stat(p.file("alice", path))
	if err != nil {
		return 0
	}
	return st.Mode()
}

func TestAFileThatIsOnlyTouchedIsInStep(t *testing.T) {
	var n appstest.Net
	a := newMirror(t, &n, "a", bothWays)
	a.write("docs/x", []byte("one"))
	is := func() state.State { return a.files("docs&offline=1")["/users/alice/docs/x"].State }
	appstest.Eventually(t, "x is published", func() bool { return is() == state.Synced })
	now := time.Now().Add(-time.Hour)
	if err := os.Chtimes(a.file("alice", "docs/x"), now, now); err != nil {
		t.Fatal(err)
	}
	appstest.Eventually(t, "x is in step again", func() bool { return is() == state.Synced })
	if v := a.version("docs/x"); v != 1 {
		t.Errorf("version %d was published of what is the same", v)
	}
}

// version is how many versions of a file there are.
func (p *place) version(path string) (n uint64) {
	p.t.Helper()
	var d Described
	p.must("GET", "file?path="+path, nil, &d)
	for _, c := range d.Version {
		n += c.N
	}
	return n
}

func TestAFileIsExecutableWhereItWasSoAndAnEditElsewhereDoesNotTakeThat(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("there is no such mode")
	}
	var n appstest.Net
	a, b, c := newMirror(t, &n, "a", bothWays), newMirror(t, &n, "b", bothWays), newMirror(t, &n, "c", bothWays)
	c.must("PATCH", "config", config.Change{Exec: &yes}, nil)
	a.write("docs/x", []byte("one"))
	b.has("docs/x", "one")
	c.has("docs/x", "one")
	if err := os.Chmod(a.file("alice", "docs/x"), 0o755); err != nil {
		t.Fatal(err)
	}
	appstest.Eventually(t, "x is executable where that is allowed", func() bool { return c.mode("docs/x") == 0o700 })
	appstest.Eventually(t, "the others are in step with that", func() bool {
		k, err := b.app.index.Get("alice", "docs/x")
		return err == nil && len(k.Local.Vector) == 1 && k.Local.Vector[0].N == 2
	})
	if b.mode("docs/x") != 0o600 {
		t.Errorf("x has mode %v where that is not allowed", b.mode("docs/x"))
	}
	b.write("docs/x", []byte("two"))
	a.has("docs/x", "two")
	c.has("docs/x", "two")
	if a.mode("docs/x") != 0o700 || c.mode("docs/x") != 0o700 {
		t.Errorf("after an edit elsewhere x has mode %v, and %v where that is allowed", a.mode("docs/x"), c.mode("docs/x"))
	}
	if err := os.Chmod(a.file("alice", "docs/x"), 0o600); err != nil {
		t.Fatal(err)
	}
	appstest.Eventually(t, "x is executable nowhere", func() bool { return c.mode("docs/x") == 0o600 })
}

func TestAnEditWhereTheDiskMakesAllExecutableIsPublishedAsItWas(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("there is no such mode")
	}
	var n appstest.Net
	a, b := newPlace(t, &n, "a", "alice"), newPlace(t, &n, "b", "alice")
	a.publish("docs/x", []byte("one"))
	b.wants("/users/alice/docs/x", []byte("one"))
	if err := os.Chmod(b.file("alice", "docs/x"), 0o755); err != nil {
		t.Fatal(err)
	}
	k, err := b.app.index.Get("alice", "docs/x")
	if err != nil {
		t.Fatal(err)
	}
	k.Local.Exec = true // so it was as soon as it was written
	if err := b.app.index.Note([]index.Here{{User: "alice", Path: "docs/x", Content: k.Content(), Held: index.All, Local: k.Local}}); err != nil {
		t.Fatal(err)
	}
	b.publish("docs/x", []byte("two"))
	if k, err := b.app.index.Get("alice", "docs/x"); err != nil || k.Exec || b.version("docs/x") != 2 {
		t.Errorf("it is published as executable: %v, %v", k.Exec, err)
	}
}

func TestAnEditKeepsItsTimeWhereAModeIsSet(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("there is no such mode")
	}
	var n appstest.Net
	a := newPlace(t, &n, "a", "alice")
	a.publish("x", []byte("one"))
	name := a.file("alice", "x")
	seen, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	edited := time.Now().Add(time.Hour).Truncate(time.Second)
	if err := os.Chtimes(name, edited, edited); err != nil { // behind seen, of the same size
		t.Fatal(err)
	}
	k, err := a.app.index.Get("alice", "x")
	if err != nil {
		t.Fatal(err)
	}
	k.Exec, k.Local.Vector = true, nil // a newer version
	if _, err := a.app.settings.Change(func(c *config.Config) error { c.Exec = true; return nil }, nil); err != nil {
		t.Fatal(err)
	}
	is, err := a.app.setMode(a.app.tree, k, seen)
	now, _ := os.Stat(name)
	if err != nil || !is || now.Mode() != 0o700 || !now.ModTime().Equal(edited) {
		t.Errorf("it is executable: %v, %v; the file has mode %v and time %v, want %v", is, err, now.Mode(), now.ModTime(), edited)
	}
}
