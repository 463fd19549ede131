//go:build linux

package main

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	mathrand "math/rand/v2"
	"os"
	"time"
)

// kill kills an agent with SIGKILL, at random moments, while it fetches or publishes a file of the cloud, and looks at what is left:
// under the name of the file is nothing, the old version or the new one, and never a mix; and after a start the work is done from where
// it was.
func kill(w *world, p plan) error {
	if err := w.start("publisher", "reader"); err != nil {
		return err
	}
	k := &killing{world: w, size: p.size}
	if err := k.version(); err != nil {
		return err
	}
	if err := k.settle(); err != nil {
		return err
	}
	killed := map[string]int{}
	for n := range p.rounds {
		whom := []string{"reader", "reader", "publisher"}[n%3]
		left, err := k.round(whom)
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

// killing is a file that one publishes and one reads.
type killing struct {
	*world
	size int
	old  [32]byte // of the version before the last one
	now  [32]byte // of the last one
}

// version makes the next version of the file. Half of it is what it was.
func (w *killing) version() error {
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
func (w *killing) settle() error {
	if err := w.until("the file is published", func() error { return w.say("publisher", "cloud", "upload", "file") }); err != nil {
		return err
	}
	return w.until("the file is fetched", func() error {
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
func (w *killing) left(name string) (string, error) {
	b, err := os.ReadFile(w.at(name, "file"))
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
func (w *killing) round(whom string) (left string, err error) {
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
