//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"ztm/scripts/process"
)

// world is a hub, and agents of its root user that each have a local directory.
type world struct {
	ctx     context.Context
	ztm     string
	dir     string
	address string // of the hub
	group   process.Group
	hub     *process.Process
	agents  map[string]*process.Process
	mounts  []string
}

const timeout = 3 * time.Minute

func newWorld(ctx context.Context, dir, ztm string) *world {
	return &world{ctx: ctx, dir: dir, ztm: ztm, address: process.FreeAddress(), group: process.Group{Dir: dir}, agents: map[string]*process.Process{}}
}

// start starts the hub, and agents that join it.
func (w *world) start(names ...string) error {
	if err := w.runHub(); err != nil {
		return err
	}
	if err := w.until("the hub writes the permit", func() error { _, err := os.Stat(w.path("root.json")); return err }); err != nil {
		return err
	}
	for _, name := range names {
		if err := w.run(name); err != nil {
			return err
		}
		if err := w.say(name, "join", "demo", "--as", name, "--permit", "root.json"); err != nil {
			return err
		}
		if err := w.say(name, "cloud", "config", "--local-dir", w.path(name+"-files")); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) runHub() (err error) {
	w.hub, err = w.group.Start("hub", w.ztm, "run", "hub", "--data", "hub", "--listen", w.address, "--names", w.address, "--permit", "root.json")
	return err
}

// end ends all, and unmounts what was mounted.
func (w *world) end() {
	w.group.End(10 * time.Second)
	for _, dir := range w.mounts {
		unix.Unmount(dir, unix.MNT_DETACH)
	}
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

// at is where a path of the cloud is at an agent.
func (w *world) at(agent, path string) string {
	return filepath.Join(w.path(agent+"-files"), "users", "root", filepath.FromSlash(path))
}

func (w *world) until(what string, f func() error) error {
	return process.Until(w.ctx, what, timeout, f)
}

// run starts an agent, again if it was killed.
func (w *world) run(name string) (err error) {
	w.agents[name], err = w.group.Start(name, w.ztm, "--data", name, "run", "agent")
	if err != nil {
		return err
	}
	return w.until(name+" answers", func() error { return w.say(name, "identity") })
}

// say runs a command line at an agent.
func (w *world) say(name string, args ...string) error {
	_, err := w.ask(name, args...)
	return err
}

// ask runs a command line at an agent, and returns what it prints.
func (w *world) ask(name string, args ...string) (string, error) {
	cmd := exec.CommandContext(w.ctx, w.ztm, append([]string{"--data", name}, args...)...)
	cmd.Dir = w.dir
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("ztm %s at %s: %w: %s%s", strings.Join(args, " "), name, err, out, errs.Bytes())
	}
	return string(out), err
}

// mirror makes docs a mirror in both directions at agents.
func (w *world) mirror(names ...string) error {
	for _, name := range names {
		if err := w.say(name, "cloud", "mirror", "docs", "--upload", "on", "--download", "on"); err != nil {
			return err
		}
	}
	return nil
}

// problem is what the status of an agent says is not done.
type problem struct{ Path, State, Reason string }

func (w *world) problems(name string) ([]problem, error) {
	out, err := w.ask(name, "cloud", "status", "-o", "json")
	if err != nil {
		return nil, err
	}
	var s struct{ Problems []problem }
	return s.Problems, json.Unmarshal([]byte(out), &s)
}

// write writes a file below docs at an agent, as a person would.
func (w *world) write(agent, path, content string) error {
	name := w.at(agent, "docs/"+path)
	return errors.Join(os.MkdirAll(filepath.Dir(name), 0o700), os.WriteFile(name, []byte(content), 0o600))
}

// contents has the sum of each file below a directory, by its path. What belongs to ztm is left out.
type contents map[string][sha256.Size]byte

func contentsOf(dir string) (contents, error) {
	all := contents{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case strings.HasPrefix(d.Name(), ".ztm") && d.IsDir():
			return fs.SkipDir
		case strings.HasPrefix(d.Name(), ".ztm") || !d.Type().IsRegular():
			return nil
		}
		rel, err := filepath.Rel(dir, path)
		if err == nil {
			all[rel], err = sumOf(path)
		}
		return err
	})
	return all, err
}

func sumOf(name string) (sum [sha256.Size]byte, err error) {
	f, err := os.Open(name)
	if err != nil {
		return sum, err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	h.Sum(sum[:0])
	return sum, err
}

// same returns nil if two directories have the same files.
func same(a, b string) error {
	x, err := contentsOf(a)
	if err != nil {
		return err
	}
	y, err := contentsOf(b)
	if err != nil {
		return err
	}
	for path, sum := range x {
		if other, is := y[path]; !is || other != sum {
			return fmt.Errorf("%q of %s is not the same in %s", path, a, b)
		}
	}
	if len(x) != len(y) {
		return fmt.Errorf("%s has %d files, and %s %d", a, len(x), b, len(y))
	}
	return nil
}

// inStep waits until docs is the same at agents.
func (w *world) inStep(names ...string) error {
	return w.until("the mirrors get in step", func() error {
		for _, name := range names[1:] {
			if err := same(w.at(names[0], "docs"), w.at(name, "docs")); err != nil {
				return err
			}
		}
		return nil
	})
}

// disk mounts a file system of a size.
func (w *world) disk(dir string, mib int64) error {
	image := dir + ".image"
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.Create(image)
	if err == nil {
		err = errors.Join(f.Truncate(mib<<20), f.Close())
	}
	if err != nil {
		return err
	}
	if out, err := exec.CommandContext(w.ctx, "mkfs.ext4", "-q", "-F", "-m", "0", image).CombinedOutput(); err != nil {
		return missing(fmt.Sprintf("no file system can be made: %v %s", err, out))
	}
	return w.mount(image, dir)
}

func (w *world) mount(image, dir string) error {
	if out, err := exec.CommandContext(w.ctx, "mount", "-o", "loop", image, dir).CombinedOutput(); err != nil {
		return missing(fmt.Sprintf("it cannot be mounted: %v %s", err, out))
	}
	w.mounts = append(w.mounts, dir)
	return nil
}
