package bundle

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"ztm/apps/appstest"
	"ztm/apps/external/manifest"
	"ztm/apps/rooted/rootedtest"
)

func TestMain(m *testing.M) { os.Exit(appstest.Run(m)) }

// project writes the directory of an app, as who writes one has it, and returns it.
func project(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		file := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		mode := os.FileMode(0o644)
		if strings.HasPrefix(text, "#!") {
			mode = 0o755
		}
		if err := os.WriteFile(file, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// guests is an app that is right.
func guests() map[string]string {
	return map[string]string{
		"app.json":      `{"name": "guests", "version": "1.0", "exec": {"any": ["bin/guests"]}}`,
		"bin/guests":    "#!/bin/sh\n",
		"page/a/x.html": "<p>",
		"page/y.html":   "<b>",
		".git/config":   "not for others",
	}
}

// scan reads the app in a directory as one of alice.
func scan(t *testing.T, dir string) *Bundle {
	t.Helper()
	b, err := Scan(dir, "alice", 1)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// from is a source of the files in a directory.
func from(dir string) Source {
	return func(f File) (io.ReadCloser, error) { return os.Open(filepath.Join(dir, f.Path)) }
}

// ls lists all names below a directory, ours too.
func ls(t *testing.T, dir string) (names []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if rel, _ := filepath.Rel(dir, path); rel != "." {
			names = append(names, filepath.ToSlash(rel))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestAnAppIsUnpackedAsItsProviderHasIt(t *testing.T) {
	var n appstest.Net
	alice, bob := n.Join("a", "alice"), n.Join("b", "bob")
	dir := project(t, guests())
	s, err := Sign(alice.Notary("app"), scan(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	b, err := Open(bob.Notary("app"), s)
	if err != nil {
		t.Fatal(err)
	}
	app, path := rootedtest.Dir(t)
	if err := Unpack(app, s, from(dir)); err != nil {
		t.Fatal(err)
	}
	want := []string{"1", "1/.ztm-manifest", "1/app.json", "1/bin", "1/bin/guests", "1/page", "1/page/a", "1/page/a/x.html", "1/page/y.html"}
	if got := ls(t, path); !slices.Equal(got, want) {
		t.Errorf("unpacked %q, want %q", got, want)
	}
	if again, err := Verify(app, 1); err != nil || again.Manifest.ID() != b.Manifest.ID() {
		t.Errorf("what was unpacked: %v", err)
	}
	info, err := os.Stat(filepath.Join(path, "1/bin/guests"))
	if err != nil || info.Mode().Perm()&0o111 == 0 && os.PathSeparator == '/' {
		t.Errorf("the program: %v, %v", info.Mode(), err)
	}
	if err := Unpack(app, s, nil); err != nil {
		t.Errorf("unpacked once more: %v", err)
	}
}

func TestABundleIsRefusedUnlessItsProviderSignedAllOfIt(t *testing.T) {
	var n appstest.Net
	alice, bob := n.Join("a", "alice"), n.Join("b", "bob")
	b := scan(t, project(t, guests()))
	good, err := Sign(alice.Notary("app"), b)
	if err != nil {
		t.Fatal(err)
	}
	changed := good
	changed.Doc = bytes.Replace(good.Doc, []byte("guests"), []byte("ghosts"), 1)
	bobs, err := Sign(bob.Notary("app"), b)
	if err != nil {
		t.Fatal(err)
	}
	elsewhere, cert, _ := alice.Notary("cloud").Sign(kind, b)
	for name, s := range map[string]Signed{
		"with a changed byte":         changed,
		"signed by another user":      bobs,
		"with another's certificate":  {good.Doc, bobs.Certificate},
		"signed by another app":       {elsewhere, cert},
		"without a signature at all":  {[]byte(`{"payload":{}}`), good.Certificate},
		"that is no document of ours": {[]byte("x"), []byte("y")},
	} {
		if _, err := Open(bob.Notary("app"), s); err == nil {
			t.Errorf("a bundle %s was taken", name)
		}
	}
	n.Evict("alice")
	if _, err := Open(bob.Notary("app"), good); err == nil {
		t.Error("a bundle of an evicted user was taken")
	}
}

func TestABundleThatLiesIsNeitherSignedNorTaken(t *testing.T) {
	var n appstest.Net
	alice := n.Join("a", "alice")
	hash := make([]byte, sha256.Size)
	for name, lie := range map[string]func(*Bundle){
		"a path that climbs":              func(b *Bundle) { b.Files[0].Path = "../x" },
		"an absolute path":                func(b *Bundle) { b.Files[0].Path = "/etc/x" },
		"a path with a backslash":         func(b *Bundle) { b.Files[0].Path = `a\x` },
		"a path that hides another":       func(b *Bundle) { b.Files[0].Path = "a/%2e%2e/%2e%2e/x" },
		"a name that is ours":             func(b *Bundle) { b.Files[0].Path = ".ztm-manifest" },
		"no name":                         func(b *Bundle) { b.Files[0].Path = "" },
		"a file twice":                    func(b *Bundle) { b.Files = append(b.Files, b.Files[len(b.Files)-1]) },
		"a file twice, in capitals":       func(b *Bundle) { b.Files = slices.Insert(b.Files, 0, File{"APP.JSON", 1, false, hash}) },
		"a file below a file":             func(b *Bundle) { b.Files = append(b.Files, File{"page/y.html/z", 1, false, hash}) },
		"a file that is a directory":      func(b *Bundle) { b.Files = slices.Insert(b.Files, 0, File{"PAGE", 1, false, hash}) },
		"files out of order":              func(b *Bundle) { slices.Reverse(b.Files) },
		"a negative size":                 func(b *Bundle) { b.Files[0].Size = -1 },
		"a size beyond the limit":         func(b *Bundle) { b.Files[0].Size = MaxBytes + 1 },
		"sizes that overflow":             func(b *Bundle) { b.Files[0].Size, b.Files[1].Size = 1<<62, 1<<62 },
		"sizes beyond the limit together": func(b *Bundle) { b.Files[0].Size, b.Files[1].Size = MaxBytes, 1 },
		"a short hash":                    func(b *Bundle) { b.Files[0].Hash = hash[1:] },
		"no files":                        func(b *Bundle) { b.Files = nil },
		"more files than are allowed":     func(b *Bundle) { b.Files = make([]File, MaxFiles+1) },
		"a program that is not there":     func(b *Bundle) { b.Manifest.Exec = map[string][]string{"any": {"bin/other"}} },
		"a program that is a page":        func(b *Bundle) { b.Manifest.Exec = map[string][]string{"any": {"page/y.html"}} },
		"the name of an app of ours":      func(b *Bundle) { b.Manifest.Name = "tunnel" },
		"a manifest that is none":         func(b *Bundle) { b.Manifest.Name = ".." },
	} {
		b := scan(t, project(t, guests()))
		lie(b)
		if _, err := Sign(alice.Notary("app"), b); err == nil {
			t.Errorf("%s: signed", name)
		}
		doc, cert, err := alice.Notary("app").Sign(kind, b)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Open(alice.Notary("app"), Signed{doc, cert}); !errors.Is(err, ErrInvalid) && !errors.Is(err, manifest.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
		if app, path := rootedtest.Dir(t); Unpack(app, Signed{doc, cert}, nil) == nil || len(ls(t, path)) > 0 {
			t.Errorf("%s: unpacked", name)
		}
	}
}

func TestFilesThatAreNotThoseThatWereSignedLeaveNothing(t *testing.T) {
	var n appstest.Net
	dir := project(t, guests())
	s, err := Sign(n.Join("a", "alice").Notary("app"), scan(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	text := func(s string) Source {
		return func(f File) (io.ReadCloser, error) {
			if f.Path != "page/y.html" {
				return from(dir)(f)
			}
			return io.NopCloser(strings.NewReader(s)), nil
		}
	}
	for name, source := range map[string]Source{
		"one byte changed": text("<i>"),
		"one byte more":    text("<b>x"),
		"one byte less":    text("<b"),
		"endless":          func(File) (io.ReadCloser, error) { return io.NopCloser(endless{}), nil },
		"missing":          func(File) (io.ReadCloser, error) { return nil, os.ErrNotExist },
	} {
		app, path := rootedtest.Dir(t)
		if err := Unpack(app, s, source); err == nil {
			t.Errorf("%s: no error", name)
		}
		if left := ls(t, path); len(left) > 0 {
			t.Errorf("%s: %q is there", name, left)
		}
	}
}

// endless is a file without an end.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func TestASequenceNumberHasOneContentForGood(t *testing.T) {
	var n appstest.Net
	alice := n.Join("a", "alice")
	files := guests()
	dir := project(t, files)
	app, _ := rootedtest.Dir(t)
	first, err := Sign(alice.Notary("app"), scan(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	if err := Unpack(app, first, from(dir)); err != nil {
		t.Fatal(err)
	}
	files["page/y.html"] = "<i>"
	dir = project(t, files)
	second, err := Sign(alice.Notary("app"), scan(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	if err := Unpack(app, second, from(dir)); !errors.Is(err, ErrInvalid) {
		t.Errorf("another content under the same number: %v", err)
	}
}

func TestAFileThatWasChangedAfterwardsIsFound(t *testing.T) {
	var n appstest.Net
	dir := project(t, guests())
	s, err := Sign(n.Join("a", "alice").Notary("app"), scan(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(dir string) error{
		"changed": func(dir string) error { return os.WriteFile(filepath.Join(dir, "page/y.html"), []byte("<i>"), 0o644) },
		"added":   func(dir string) error { return os.WriteFile(filepath.Join(dir, "page/z.html"), nil, 0o644) },
		"removed": func(dir string) error { return os.Remove(filepath.Join(dir, "page/y.html")) },
	} {
		app, path := rootedtest.Dir(t)
		if err := Unpack(app, s, from(dir)); err != nil {
			t.Fatal(err)
		}
		if err := change(filepath.Join(path, "1")); err != nil {
			t.Fatal(err)
		}
		if _, err := Verify(app, 1); !errors.Is(err, ErrInvalid) {
			t.Errorf("a file was %s: %v", name, err)
		}
	}
}

func TestADirectoryThatIsNoAppIsRefusedWithTheReason(t *testing.T) {
	with := func(name, text string) map[string]string {
		files := guests()
		files[name] = text
		return files
	}
	for name, dir := range map[string]string{
		"no app.json":                      project(t, map[string]string{"x": "y"}),
		"app.json is no JSON":              project(t, with("app.json", "x")),
		"an unknown right":                 project(t, with("app.json", `{"name": "g", "version": "1", "exec": {"any": ["bin/guests"]}, "rights": {"nett": "any"}}`)),
		"a provider":                       project(t, with("app.json", `{"provider": "bob", "name": "g", "version": "1", "exec": {"any": ["bin/guests"]}}`)),
		"a second document":                project(t, with("app.json", guests()["app.json"]+"{}")),
		"a program that is not executable": project(t, with("bin/guests", "x")),
	} {
		if _, err := Scan(dir, "alice", 1); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	dir := project(t, guests())
	if program := filepath.Join(dir, "bin", "guests"); runtime.GOOS != "windows" {
		if err := os.Chmod(program, 0o755|os.ModeSetuid); err != nil {
			t.Fatal(err)
		}
		if _, err := Scan(dir, "alice", 1); !errors.Is(err, ErrInvalid) {
			t.Errorf("a setuid program: %v", err)
		}
		if err := os.Chmod(program, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "link")); err != nil {
		t.Skip(err)
	}
	if _, err := Scan(dir, "alice", 1); !errors.Is(err, ErrInvalid) {
		t.Errorf("a symbolic link: %v", err)
	}
}

func TestWhatAttemptsLeftIsRemovedAndWhatIsKeptStays(t *testing.T) {
	app, path := rootedtest.Dir(t)
	for _, name := range []string{"1", "2", "3", ".ztm-new-4"} {
		if err := os.MkdirAll(filepath.Join(path, name, "x"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := Tidy(app, 2, 3); err != nil {
		t.Fatal(err)
	}
	if got := ls(t, path); !slices.Equal(got, []string{"2", "2/x", "3", "3/x"}) {
		t.Errorf("%q is there", got)
	}
}

// FuzzBundle: of what passes all checks each file is below the directory of the version, is named
// once, and the sizes are within the limits.
func FuzzBundle(f *testing.F) {
	good, err := json.Marshal(Bundle{Manifest: manifest.Manifest{Provider: "a", Name: "b", Version: "1", Sequence: 1, Exec: map[string][]string{"any": {"x"}}},
		Files: []File{{"x", 1, true, make([]byte, sha256.Size)}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(bytes.Replace(good, []byte(`"path":"x"`), []byte(`"path":"a/../x"`), 1))
	f.Fuzz(func(t *testing.T, payload []byte) {
		doc, err := json.Marshal(struct{ Payload json.RawMessage }{payload})
		if err != nil {
			return
		}
		b, err := Read(Signed{Doc: doc})
		if err != nil {
			return
		}
		seen := map[string]bool{}
		for _, file := range b.Files {
			if !filepath.IsLocal(file.Path) || seen[strings.ToLower(file.Path)] || file.Size < 0 {
				t.Errorf("the file %q of %d bytes", file.Path, file.Size)
			}
			seen[strings.ToLower(file.Path)] = true
		}
		if n := b.Bytes(); n < 0 || n > MaxBytes {
			t.Errorf("%d bytes", n)
		}
	})
}
