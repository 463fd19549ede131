//go:build linux

package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// random writes a file of a size that is the same for the same seed.
func random(name string, size int64, seed uint64) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	out := bufio.NewWriterSize(f, 1<<20)
	_, err = io.CopyN(out, rand.NewChaCha8(key), size)
	return errors.Join(err, out.Flush(), f.Close())
}

// git mirrors a repository while commits are made in it. When it rests, the copy is a repository with the last commit, in which nothing
// is missing and nothing is changed.
func git(w *world, _ plan) error {
	if _, err := exec.LookPath("git"); err != nil {
		return missing(err.Error())
	}
	if err := w.start("a", "b"); err != nil {
		return err
	}
	if err := w.mirror("a", "b"); err != nil {
		return err
	}
	repo, copied := w.at("a", "docs/repo"), w.at("b", "docs/repo")
	if _, err := w.git(w.dir, "init", "-q", repo); err != nil {
		return err
	}
	for begun := time.Now(); time.Since(begun) < 30*time.Second; {
		for i := range 20 {
			if err := os.WriteFile(filepath.Join(repo, fmt.Sprintf("file %d", i)), fmt.Appendf(nil, "%v\n%d\n", time.Now(), rand.Int()), 0o600); err != nil {
				return err
			}
		}
		if _, err := w.git(repo, "add", "-A"); err != nil {
			return err
		}
		if _, err := w.git(repo, "-c", "user.name=x", "-c", "user.email=x@example.com", "commit", "-qm", "more"); err != nil {
			return err
		}
	}
	if _, err := w.git(repo, "gc", "-q"); err != nil { // packs, and removes many files
		return err
	}
	if err := w.until("the deletions are confirmed", func() error { // git has removed more than half of all files
		if err := errors.Join(w.confirm("a"), w.confirm("b")); err != nil {
			return err
		}
		return same(repo, copied)
	}); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(copied, ".git/refs/heads"), 0o700); err != nil { // git wants it, and it is empty: no mirror has it
		return err
	}
	if _, err := w.git(copied, "fsck", "--strict"); err != nil {
		return err
	}
	head, err := w.git(repo, "rev-parse", "HEAD")
	if err != nil {
		return err
	}
	if got, err := w.git(copied, "rev-parse", "HEAD"); err != nil || got != head {
		return fmt.Errorf("the copy is at %s, and not at %s, %w", got, head, err)
	}
	if changed, err := w.git(copied, "status", "--porcelain"); err != nil || changed != "" {
		return fmt.Errorf("in the copy is changed: %s, %w", changed, err)
	}
	return nil
}

// confirm lets the deletions go that a mirror holds.
func (w *world) confirm(name string) error {
	out, err := w.ask(name, "cloud", "mirror", "-o", "json")
	if err != nil || !strings.Contains(out, `"held"`) {
		return err
	}
	return w.say(name, "cloud", "mirror", "docs", "--confirm")
}

func (w *world) git(dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(w.ctx, "git", append([]string{"-c", "gc.auto=0"}, args...)...) // it would collect garbage in the background
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "GIT_DISCOVERY_ACROSS_FILESYSTEM=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("git %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return string(out), err
}

// common are names that every system can have, though some look odd.
var common = []string{
	"caf\u00e9", "Bücher/Straße.txt", "日本語/ファイル.txt", "🏳️‍🌈 emoji 👩‍👩‍👧‍👦.jpg", "שלום עולם.txt", "a\u202egpj.exe", "-rf", "--help", "~", "$HOME", "`id`",
	"Icon\u200b", ".DS_Store", "._resource", "desktop.ini", "Thumbs.db", "two  spaces", " leading", "a'b\"c;d&e", "100 %", "#x", "!x", "[x]", "{a,b}",
	strings.Repeat("n", 255), strings.Repeat("é", 127), strings.Repeat("d/", 100) + "deep",
}

// windows are names that Windows does not have, and macOS and Linux do.
var windows = []string{"CON", "nul.txt", "file: one", "what?", "st*r", "quo\"te", "a:b", "<x>", "pipe|", "dot.", "space ", "COM1", "Aux/x", "LPT9.log"}

// unpublished are names that a tree in the mesh does not have.
var unpublished = []string{"back\\slash", "new\nline", "escape\x1b[2J", "not UTF-8 \xff\xfe", "bell\a", "%2e%2e%2fx"}

// names copies and mirrors files with unusual names: a copy keeps all of them to the byte, a mirror those that can be published, and
// status names each of the others.
func names(w *world, _ plan) error {
	if err := w.start("a", "b"); err != nil {
		return err
	}
	if err := w.mirror("a", "b"); err != nil {
		return err
	}
	for _, path := range append(append(append([]string{"Case", "case"}, common...), windows...), unpublished...) {
		if err := w.write("a", path, path); err != nil {
			return err
		}
	}
	if err := w.say("a", "file", "cp", "-q", "-r", w.at("a", "docs"), "b:"+w.path("copy")); err != nil {
		return err
	}
	if err := same(w.at("a", "docs"), w.path("copy")); err != nil {
		return fmt.Errorf("a copy: %w", err)
	}
	for _, path := range unpublished {
		if err := w.until("status names it", func() error { return w.named("a", path) }); err != nil {
			return err
		}
		if err := os.Remove(w.at("a", "docs/"+path)); err != nil { // so that what is left is the same
			return err
		}
	}
	if err := w.inStep("a", "b"); err != nil {
		return err
	}
	if err := w.say("b", "cloud", "ls"); err != nil {
		return err
	}
	for _, path := range append(common[:len(common):len(common)], windows...) {
		if err := w.say("b", "cloud", "download", "/users/root/docs/"+path, "-o", w.path("one")); err != nil {
			return err
		}
		if b, err := os.ReadFile(w.path("one")); err != nil || string(b) != path {
			return fmt.Errorf("%q comes as %q, %w", path, b, err)
		}
	}
	return nil
}

// named returns nil if a file of docs is among the problems of an agent.
func (w *world) named(name, path string) error {
	list, err := w.problems(name)
	for _, p := range list {
		if p.Path == "/users/root/docs/"+strings.NewReplacer("\xff", "\ufffd", "\xfe", "\ufffd").Replace(path) && p.State == "unreadable" {
			return nil
		}
	}
	return errors.Join(err, fmt.Errorf("%q is not among %q", path, list))
}

// many copies, publishes and mirrors a tree of small files.
func many(w *world, p plan) error {
	if err := w.start("a", "b", "c"); err != nil {
		return err
	}
	tree := w.path("tree")
	if err := small(tree, p.files); err != nil {
		return err
	}
	begun := time.Now()
	said := func(what string) {
		fmt.Printf("%8v  %s\n", time.Since(begun).Round(10*time.Millisecond), what)
		begun = time.Now()
	}
	if err := w.say("a", "file", "cp", "-q", "-r", tree, "b:"+w.path("copy")); err != nil {
		return err
	}
	said("file cp -r")
	if err := w.say("a", "cloud", "upload", tree, "tree"); err != nil {
		return err
	}
	said("cloud upload")
	if err := w.until("it is fetched", func() error { return w.say("b", "cloud", "download", "tree") }); err != nil {
		return err
	}
	said("cloud download")
	if err := w.mirror("a", "c"); err != nil {
		return err
	}
	if err := os.Rename(w.at("a", "tree"), w.at("a", "docs/tree")); err != nil {
		return err
	}
	begun = time.Now()
	err := w.until("the mirror has all", func() error {
		left, err := filepath.Glob(w.at("c", "docs/tree/*"))
		if err != nil || len(left) < 100 {
			return errors.Join(err, errors.New("not yet"))
		}
		return same(tree, w.at("c", "docs/tree"))
	})
	if err != nil {
		return err
	}
	said("mirror, 10 s of standing still among it")
	for _, copied := range []string{w.path("copy"), w.at("b", "tree"), w.at("c", "docs/tree")} {
		if err := same(tree, copied); err != nil {
			return err
		}
	}
	return nil
}

// small makes a tree of files from the documentation of this machine, or of others of such sizes where there is none.
func small(dir string, files int) error {
	var from []string
	filepath.WalkDir("/usr/share/doc", func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if info, err := d.Info(); err == nil && info.Size() < 1<<20 {
				from = append(from, path)
			}
		}
		return nil
	})
	for i := range files {
		name := filepath.Join(dir, fmt.Sprint(i%100), fmt.Sprint("file ", i))
		content := fmt.Appendf(nil, "%d: %0*d", i, i%5000, i)
		if len(from) > 0 {
			b, err := os.ReadFile(from[i%len(from)])
			if err != nil {
				return err
			}
			content = append(content, b...)
		}
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o700), os.WriteFile(name, content, 0o600)); err != nil {
			return err
		}
	}
	return nil
}

// huge copies and publishes one large file.
func huge(w *world, p plan) error {
	if err := w.start("a", "b"); err != nil {
		return err
	}
	file := w.at("a", "huge")
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), random(file, int64(p.huge), 3)); err != nil {
		return err
	}
	want, err := sumOf(file)
	if err != nil {
		return err
	}
	for _, way := range []struct {
		name string
		copy func() error
		at   string
	}{
		{"file cp", func() error { return w.say("a", "file", "cp", "-q", file, "b:"+w.path("copy")) }, w.path("copy")},
		{"cloud publish, download", func() error {
			if err := w.say("a", "cloud", "publish", "huge"); err != nil {
				return err
			}
			return w.until("it is fetched", func() error { return w.say("b", "cloud", "download", "huge") })
		}, w.at("b", "huge")},
	} {
		begun := time.Now()
		if err := way.copy(); err != nil {
			return err
		}
		fmt.Printf("%8v  %s\n", time.Since(begun).Round(10*time.Millisecond), way.name)
		if got, err := sumOf(way.at); err != nil || got != want {
			return fmt.Errorf("%s: another file, %w", way.name, err)
		}
		if err := os.Remove(way.at); err != nil {
			return err
		}
	}
	for _, name := range []string{"a", "b"} {
		if _, peak := w.agents[name].Memory(); peak > 200<<20 {
			return fmt.Errorf("%s took %d MB of memory", name, peak>>20)
		}
	}
	return nil
}
