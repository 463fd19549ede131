// Command kill kills an agent with SIGKILL, at random moments, while it fetches or publishes a file of the cloud, and looks at what
// is left: under the name of the file is nothing, the old version or the new one, and never a mix; and after a start the work is done
// from where it was.
//
//	scripts/kill/run [-rounds 100] [-size 50] [-binary FILE]
package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	mathrand "math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"ztm/scripts/process"
)

func main() {
	rounds := flag.Int("rounds", 100, "kill it `so often`")
	size := flag.Int("size", 50, "with a file of so many `MiB`")
	binary := flag.String("binary", "", "run this `file` instead of building one")
	flag.Parse()
	os.Exit(process.Main("kill", func(ctx context.Context, _ []string) error {
		return process.InScratch(ctx, "kill", *binary, func(dir, ztm string) error { return run(ctx, dir, ztm, *rounds, *size<<20) })
	}))
}

// run does all rounds.
func run(ctx context.Context, dir, ztm string, rounds, size int) error {
	w := &world{ctx: ctx, dir: dir, ztm: ztm, size: size, group: process.Group{Dir: dir}, agents: map[string]*process.Process{}}
	defer w.group.End(10 * time.Second)
	if err := w.start(); err != nil {
		return err
	}
	if err := w.version(); err != nil {
		return err
	}
	if err := w.settle(); err != nil {
		return err
	}
	killed := map[string]int{}
	for n := range rounds {
		whom := []string{"reader", "reader", "publisher"}[n%3]
		left, err := w.round(whom)
		if err != nil {
			return fmt.Errorf("round %d, %s: %w", n+1, whom, err)
		}
		killed[whom+" with "+left]++
	}
	for what, times := range killed {
		fmt.Printf("%4d  %s\n", times, what)
	}
	return nil
}

// world is a hub, a publisher and a reader.
type world struct {
	ctx    context.Context
	ztm    string
	dir    string
	size   int
	group  process.Group
	agents map[string]*process.Process
	old    [32]byte // of the version before the last one
	now    [32]byte // of the last one
}

const timeout = 2 * time.Minute

func (w *world) start() error {
	address := process.FreeAddress()
	if _, err := w.group.Start("hub", w.ztm, "run", "hub", "--data", "hub", "--listen", address, "--names", address, "--permit", "root.json"); err != nil {
		return err
	}
	if err := process.Until(w.ctx, "the hub writes the permit", timeout, func() error { _, err := os.Stat(w.path("root.json")); return err }); err != nil {
		return err
	}
	for _, name := range []string{"publisher", "reader"} {
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

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

// run starts an agent, again if it was killed.
func (w *world) run(name string) (err error) {
	w.agents[name], err = w.group.Start(name, w.ztm, "--data", name, "run", "agent")
	if err != nil {
		return err
	}
	return process.Until(w.ctx, name+" answers", timeout, func() error { return w.say(name, "identity") })
}

// say runs a command line at an agent.
func (w *world) say(name string, args ...string) error {
	cmd := exec.CommandContext(w.ctx, w.ztm, append([]string{"--data", name}, args...)...)
	cmd.Dir = w.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("ztm %s at %s: %w: %s", strings.Join(args, " "), name, err, out)
	}
	return nil
}

// version makes the next version of the file. Half of it is what it was.
func (w *world) version() error {
	b := make([]byte, w.size)
	if old, err := os.ReadFile(w.path("file")); err == nil {
		copy(b, old)
		rand.Read(b[:len(b)/2])
	} else {
		rand.Read(b)
	}
	w.old, w.now = w.now, sha256.Sum256(b)
	return os.WriteFile(w.path("file"), b, 0o600)
}

// settle has both have the last version.
func (w *world) settle() error {
	if err := process.Until(w.ctx, "the file is published", timeout, func() error { return w.say("publisher", "cloud", "upload", "file") }); err != nil {
		return err
	}
	return process.Until(w.ctx, "the file is fetched", timeout, func() error {
		if err := w.say("reader", "cloud", "download", "/users/root/file"); err != nil {
			return err
		}
		left, err := w.left("reader")
		if err == nil && left != "the new version" {
			err = errors.New("there is " + left)
		}
		return err
	})
}

// left says what is under the name of the file at an agent. Anything but a whole version is an error.
func (w *world) left(name string) (string, error) {
	b, err := os.ReadFile(filepath.Join(w.path(name+"-files"), "users", "root", "file"))
	if errors.Is(err, fs.ErrNotExist) {
		return "nothing", nil
	}
	if err != nil {
		return "", err
	}
	switch sha256.Sum256(b) {
	case w.now:
		return "the new version", nil
	case w.old:
		return "the old version", nil
	}
	return "", fmt.Errorf("%d bytes that are no version", len(b))
}

// round makes a version, kills an agent while it gets it, looks, starts it again, and has the work done.
func (w *world) round(whom string) (left string, err error) {
	if err := w.version(); err != nil {
		return "", err
	}
	args := []string{"cloud", "upload", "file"}
	if whom == "reader" {
		if err := w.say("publisher", args...); err != nil {
			return "", err
		}
		args = []string{"cloud", "download", "/users/root/file"}
	}
	working := make(chan error, 1)
	go func() { working <- w.say(whom, args...) }() // awaited below
	select {
	case <-time.After(time.Duration(mathrand.Int64N(int64(600 * time.Millisecond)))):
	case err := <-working:
		working <- err
	}
	w.agents[whom].Kill()
	<-working
	if left, err = w.left(whom); err != nil {
		return left, err
	}
	if err := w.run(whom); err != nil {
		return left, err
	}
	return left, w.settle()
}
