//go:build unix

package rooted

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// tree is a root with a secret beside it, one that links within lead to, and all that is no file.
type tree struct{ top, root, outside string }

func newTree(t *testing.T) tree {
	t.Helper()
	top, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	tr := tree{top, filepath.Join(top, "root"), filepath.Join(top, "outside")}
	for _, dir := range []string{"outside", "root", "root/public", "root/private", "root/real"} {
		if err := os.Mkdir(filepath.Join(top, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{"outside/secret": "secret", "root/private/y": "private", "root/real/file": "file"} {
		if err := os.WriteFile(filepath.Join(top, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, to := range map[string]string{
		"out": "../outside", "outfile": "../outside/secret", "abs": tr.outside, "dangling": "../outside/new",
		"in": "private", "infile": "private/y", "public/x": "../private/y", "public/d": "../private", "real/same": "file", "loop": "loop",
	} {
		if err := os.Symlink(to, filepath.Join(tr.root, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(tr.root, "pipe"), 0o644); err != nil {
		t.Fatal(err)
	}
	return tr
}

// access is what is done to a file by its path below a root: by this room, or as one would without
// it.
type access struct {
	read  func(path string) (string, error)
	write func(path, text string) error
	list  func(path string) (int, error)
	chmod func(path string, perm fs.FileMode) error
	del   func(path string) error
	mkdir func(path string) error
}

// naive is the way that many take: clean the path, then open it.
func (tr tree) naive() access {
	at := func(path string) string { return filepath.Join(tr.root, filepath.Clean("/"+path)) }
	return access{
		read: func(path string) (string, error) {
			f, err := os.OpenFile(at(path), os.O_RDONLY|syscall.O_NONBLOCK, 0)
			if err != nil {
				return "", err
			}
			defer f.Close()
			b, err := io.ReadAll(f)
			return string(b), err
		},
		write: func(path, text string) error { return os.WriteFile(at(path), []byte(text), 0o644) },
		list: func(path string) (int, error) {
			l, err := os.ReadDir(at(path))
			return len(l), err
		},
		chmod: func(path string, perm fs.FileMode) error { return os.Chmod(at(path), perm) },
		del:   func(path string) error { return os.Remove(at(path)) },
		mkdir: func(path string) error { return os.MkdirAll(at(path), 0o755) },
	}
}

// parent opens the directory of a path, and calls f with it.
func parent(d *Dir, path string, f func(*Dir, Name) error) error {
	p, err := LocalPath(path)
	if err != nil {
		return err
	}
	dir, n := p.Split()
	in, err := d.At(dir)
	if err != nil {
		return err
	}
	defer in.Close()
	return f(in, n)
}

func write(d *Dir, path, text string) error {
	return parent(d, path, func(in *Dir, n Name) error {
		w, err := in.Create(n, "", true)
		if err != nil {
			return err
		}
		defer w.Discard()
		if _, err := io.WriteString(w, text); err != nil {
			return err
		}
		return w.Commit(0o644, time.Time{}, false)
	})
}

func read(d *Dir, path string) (text string, err error) {
	err = parent(d, path, func(in *Dir, n Name) error {
		f, err := in.Open(n)
		if err != nil {
			return err
		}
		defer f.Close()
		b, err := io.ReadAll(f)
		text = string(b)
		return err
	})
	return text, err
}

func (tr tree) open(t *testing.T) *Dir {
	t.Helper()
	d, err := Open(tr.root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func ours(d *Dir) access {
	return access{
		read:  func(path string) (string, error) { return read(d, path) },
		write: func(path, text string) error { return write(d, path, text) },
		list: func(path string) (int, error) {
			p, err := LocalPath(path)
			if err != nil {
				return 0, err
			}
			in, err := d.At(p)
			if err != nil {
				return 0, err
			}
			defer in.Close()
			names, err := in.Names()
			return len(names), err
		},
		chmod: func(path string, perm fs.FileMode) error {
			return parent(d, path, func(in *Dir, n Name) error { return in.SetAttributes(n, perm, time.Time{}) })
		},
		del: func(path string) error { return parent(d, path, (*Dir).Remove) },
		mkdir: func(path string) error {
			p, err := LocalPath(path)
			if err != nil {
				return err
			}
			made, err := d.MkdirAt(p, 0o755)
			if err == nil {
				made.Close()
			}
			return err
		},
	}
}

// attacks are accesses that must fail.
var attacks = []struct {
	name string
	do   func(access) error
}{
	{"read a link to outside", func(a access) error { _, err := a.read("outfile"); return err }},
	{"read through a link to outside", func(a access) error { _, err := a.read("out/secret"); return err }},
	{"read through an absolute link", func(a access) error { _, err := a.read("abs/secret"); return err }},
	{"read a link within", func(a access) error { _, err := a.read("public/x"); return err }},
	{"read through a link within", func(a access) error { _, err := a.read("public/d/y"); return err }},
	{"read a link within one directory", func(a access) error { _, err := a.read("real/same"); return err }},
	{"write through a link to outside", func(a access) error { return a.write("out/new", "x") }},
	{"write a link to outside", func(a access) error { return a.write("outfile", "x") }},
	{"write a dangling link", func(a access) error { return a.write("dangling", "x") }},
	{"write a link within", func(a access) error { return a.write("infile", "x") }},
	{"list a link to outside", func(a access) error { _, err := a.list("out"); return err }},
	{"list a link within", func(a access) error { _, err := a.list("in"); return err }},
	{"chmod a link to outside", func(a access) error { return a.chmod("outfile", 0o777) }},
	{"chmod through a link", func(a access) error { return a.chmod("out/secret", 0o777) }},
	{"chmod a link within", func(a access) error { return a.chmod("infile", 0o777) }},
	{"make directories through a link", func(a access) error { return a.mkdir("out/deep/deeper") }},
	{"read a pipe", func(a access) error { _, err := a.read("pipe"); return err }},
	{"remove through a link to outside", func(a access) error { return a.del("out/secret") }},
}

func TestNothingIsDoneThroughALink(t *testing.T) {
	for _, attack := range attacks {
		t.Run(attack.name, func(t *testing.T) {
			tr := newTree(t)
			before := snapshot(t, tr)
			if err := attack.do(ours(tr.open(t))); err == nil {
				t.Error("it was done")
			} else if !errors.Is(err, ErrLink) && !errors.Is(err, ErrSpecial) {
				t.Errorf("it failed for another reason: %v", err)
			}
			if after := snapshot(t, tr); after != before {
				t.Errorf("before:\n%s\nafter:\n%s", before, after)
			}
			if err := attack.do(newTree(t).naive()); err != nil {
				t.Errorf("the attack is none: it fails without this room, too: %v", err)
			}
		})
	}
}

// snapshot is all that can be changed in a tree.
func snapshot(t *testing.T, tr tree) (all string) {
	t.Helper()
	err := filepath.WalkDir(tr.top, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		text, link := []byte(nil), ""
		switch {
		case info.Mode().IsRegular():
			text, err = os.ReadFile(path)
		case info.Mode().Type() == fs.ModeSymlink:
			link, err = os.Readlink(path)
		}
		all += fmt.Sprintf("%s %v %q %s\n", path, info.Mode(), text, link)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestARemovedLinkLeavesWhatItLedTo(t *testing.T) {
	tr := newTree(t)
	d := tr.open(t)
	for _, name := range []string{"out", "outfile", "dangling", "in"} {
		if err := d.Remove(Name{name}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := os.Stat(filepath.Join(tr.outside, "secret")); err != nil {
		t.Error(err)
	}
	if text, err := read(d, "private/y"); text != "private" || err != nil {
		t.Errorf("%q, %v", text, err)
	}
}

func TestAPathThatIsNotAllowedReachesNothing(t *testing.T) {
	tr := newTree(t)
	before := snapshot(t, tr)
	d := tr.open(t)
	for _, path := range []string{"../outside/secret", "/etc/passwd", "real/../../outside/secret", "real//file", "real/./file", "real/file/", "real/\x00", ".ztm-x"} {
		if text, err := read(d, path); err == nil {
			t.Errorf("%q was read: %q", path, text)
		}
		if err := write(d, path, "x"); err == nil {
			t.Errorf("%q was written", path)
		}
	}
	if after := snapshot(t, tr); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

// TestASwappedDirectoryLeadsNowhere has a directory change places with a link all the time, while it
// is read, written and tidied.
func TestASwappedDirectoryLeadsNowhere(t *testing.T) {
	tr := newTree(t)
	before := func() string {
		b, err := os.ReadFile(filepath.Join(tr.outside, "secret"))
		return fmt.Sprint(string(b), err)
	}()
	d := tr.open(t)
	a := ours(d)
	deadline := time.Now().Add(raceTime(t))
	var stop atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		at := func(name string) string { return filepath.Join(tr.root, name) }
		for !stop.Load() {
			os.Rename(at("real"), at("kept"))
			os.Symlink("../outside", at("real"))
			os.Remove(at("real"))
			os.Symlink("private", at("real"))
			os.Remove(at("real"))
			os.Rename(at("kept"), at("real"))
		}
	}()
	worked, refused := 0, 0
	for n := 0; time.Now().Before(deadline); n++ {
		text, err := a.read("real/file")
		if err == nil && text != "file" {
			t.Fatalf("read %q", text)
		}
		if text, err := a.read("real/secret"); err == nil {
			t.Fatalf("read %q", text)
		}
		if text, err := a.read("real/y"); err == nil {
			t.Fatalf("read %q", text)
		}
		werr := a.write("real/made", "x")
		a.chmod("real/made", 0o700)
		parent(d, "real/dir", func(in *Dir, n Name) error { return in.Mkdir(n, 0o755) })
		a.del("real/made")
		a.del("real/secret")
		for _, err := range []error{err, werr} {
			if err == nil {
				worked++
			} else {
				refused++
			}
		}
	}
	stop.Store(true)
	<-done
	t.Logf("%d accesses worked, %d were refused", worked, refused)
	if worked == 0 || refused == 0 {
		t.Error("nothing was raced")
	}
	for _, dir := range []string{tr.outside, filepath.Join(tr.root, "private")} {
		if l, err := os.ReadDir(dir); err != nil || len(l) != 1 {
			t.Errorf("%s has %v, %v", dir, l, err)
		}
	}
	if b, err := os.ReadFile(filepath.Join(tr.outside, "secret")); fmt.Sprint(string(b), err) != before {
		t.Errorf("the secret is %q, %v", b, err)
	}
}

func TestWhatIsPutThereInBetweenIsNotOpened(t *testing.T) {
	dir := t.TempDir()
	d, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := errors.Join(os.Mkdir(at("real"), 0o700), os.Mkdir(at("private"), 0o700), os.WriteFile(at("file"), nil, 0o600), os.WriteFile(at("secret"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	wasDir, err := d.Stat(Name{"real"})
	if err != nil {
		t.Fatal(err)
	}
	wasFile, err := d.Stat(Name{"file"})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Remove(at("real")), os.Remove(at("file")), os.Symlink("private", at("real")), os.Symlink("secret", at("file"))); err != nil {
		t.Skip("no links: ", err)
	}
	if _, err := d.subAs(Name{"real"}, wasDir); !errors.Is(err, ErrChanged) {
		t.Errorf("a link in place of a directory: %v", err)
	}
	if _, err := d.openAs(Name{"file"}, os.O_RDONLY, wasFile); !errors.Is(err, ErrChanged) {
		t.Errorf("a link in place of a file: %v", err)
	}
}

// raceTime is how long a race is run: three seconds, or as ZTM_RACE_TIME says.
func raceTime(t *testing.T) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(os.Getenv("ZTM_RACE_TIME"))
	switch {
	case err == nil:
		return d
	case testing.Short():
		return time.Second
	}
	return 3 * time.Second
}

func TestATemporaryNameThatIsALinkIsNotWrittenThrough(t *testing.T) {
	tr := newTree(t)
	d := tr.open(t)
	for _, kind := range []string{"a link", "a dangling link", "a hard link", "a directory", "a pipe"} {
		t.Run(kind, func(t *testing.T) {
			w, err := d.Create(Name{"new"}, kind, false)
			if err != nil {
				t.Fatal(err)
			}
			temp := filepath.Join(tr.root, w.temp)
			if err := w.Discard(); err != nil {
				t.Fatal(err)
			}
			secret := filepath.Join(tr.outside, "secret")
			switch kind {
			case "a link":
				err = os.Symlink(secret, temp)
			case "a dangling link":
				err = os.Symlink(filepath.Join(tr.outside, "none"), temp)
			case "a hard link":
				err = os.Link(secret, temp)
			case "a directory":
				err = os.Mkdir(temp, 0o755)
			case "a pipe":
				err = syscall.Mkfifo(temp, 0o644)
			}
			if err != nil {
				t.Fatal(err)
			}
			if w, err = d.Create(Name{"new"}, kind, false); err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(w, "text"); err != nil {
				t.Fatal(err)
			}
			if err := w.Commit(0o644, time.Time{}, true); err != nil {
				t.Fatal(err)
			}
			if text, err := read(d, "new"); text != "text" || err != nil {
				t.Errorf("%q, %v", text, err)
			}
			if err := d.Remove(Name{"new"}); err != nil {
				t.Error(err)
			}
			if l, err := os.ReadDir(tr.outside); err != nil || len(l) != 1 {
				t.Errorf("outside there is %v, %v", l, err)
			}
			if b, err := os.ReadFile(secret); string(b) != "secret" || err != nil {
				t.Errorf("the secret is %q, %v", b, err)
			}
		})
	}
}

func TestNobodyGetsSetuidFromAPeer(t *testing.T) {
	tr := newTree(t)
	d := tr.open(t)
	w, err := d.Create(Name{"tool"}, "", false)
	if err != nil {
		t.Fatal(err)
	}
	all := fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky | 0o4755
	if err := w.Commit(all, time.Time{}, false); err != nil {
		t.Fatal(err)
	}
	if err := d.Mkdir(Name{"tools"}, all|0o777); err != nil {
		t.Fatal(err)
	}
	for _, set := range []bool{false, true} {
		for _, n := range []Name{{"tool"}, {"tools"}} {
			if set {
				if err := d.SetAttributes(n, all, time.Time{}); err != nil {
					t.Fatal(err)
				}
			}
			if info, err := d.Stat(n); err != nil || info.Mode()&^fs.ModeDir != 0o755 {
				t.Errorf("%v has the mode %v, %v; it was set: %v", n, info.Mode(), err, set)
			}
		}
	}
}

func TestAWalkTellsOfLinksAndGoesThroughNone(t *testing.T) {
	tr := newTree(t)
	got := map[string]fs.FileMode{}
	err := tr.open(t).Walk(func(_ *Dir, _ Name, p Path, info fs.FileInfo, err error) error {
		if err != nil {
			t.Errorf("%v: %v", p, err)
			return nil
		}
		got[string(p.Bytes())] = info.Mode().Type()
		if p.s == "public" {
			return SkipDir
		}
		return nil
	})
	want := map[string]fs.FileMode{"private": fs.ModeDir, "private/y": 0, "public": fs.ModeDir, "real": fs.ModeDir, "real/file": 0, "real/same": fs.ModeSymlink,
		"pipe": fs.ModeNamedPipe}
	for _, l := range []string{"out", "outfile", "abs", "dangling", "in", "infile", "loop"} {
		want[l] = fs.ModeSymlink
	}
	if fmt.Sprint(got) != fmt.Sprint(want) || err != nil {
		t.Errorf("walked %v, %v; want %v", got, err, want)
	}
}
