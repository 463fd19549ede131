//go:build linux

package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// full has files come to a disk that somebody else fills meanwhile. What was there stays, the error names the file, and it comes once
// there is room.
func full(w *world, p plan) error {
	if err := w.disk(w.path("reader-files"), int64(3*p.size>>20)+100); err != nil {
		return err
	}
	if err := w.start("publisher", "reader"); err != nil {
		return err
	}
	big, old := w.path("big"), w.path("old")
	if err := errors.Join(random(big, int64(p.size), 1), random(old, 1000, 2)); err != nil {
		return err
	}
	inbox := w.path("reader-files/copies")
	if err := os.MkdirAll(inbox, 0o700); err != nil {
		return err
	}
	for _, way := range []struct {
		name    string
		replace func(from string) error // copies it, slowly at first
		at      string
	}{
		{"file cp", func(from string) error {
			return w.say("publisher", "file", "cp", "--limit", "20M", from, "reader:"+inbox+"/it")
		}, inbox + "/it"},
		{"cloud", func(from string) error {
			if err := w.say("publisher", "cloud", "upload", from, "it"); err != nil {
				return err
			}
			return w.say("reader", "cloud", "download", "it")
		}, w.at("reader", "it")},
	} {
		if err := w.until(way.name+" has brought the old version", func() error { return way.replace(old) }); err != nil {
			return err
		}
		if err := w.say("reader", "cloud", "config", "--limit-down", "20M"); err != nil {
			return err
		}
		ended := make(chan error, 1)
		go func() { ended <- way.replace(big) }() // awaited below
		ballast := w.path("reader-files/ballast")
		if err := w.until("something has come", func() error { return comes(filepath.Dir(way.at), int64(p.size/10)) }); err != nil {
			return errors.Join(err, <-ended)
		}
		if err := fill(ballast); err != nil {
			return err
		}
		if err := <-ended; err == nil || !strings.Contains(err.Error(), "it") {
			return fmt.Errorf("%s onto a full disk: %w", way.name, err)
		}
		if sum, err := sumOf(way.at); err != nil || sum != must(sumOf(old)) {
			return fmt.Errorf("%s onto a full disk: the old version is not there, %w", way.name, err)
		}
		if err := os.Remove(ballast); err != nil {
			return err
		}
		if err := way.replace(big); err != nil {
			return fmt.Errorf("%s with room again: %w", way.name, err)
		}
		if sum, err := sumOf(way.at); err != nil || sum != must(sumOf(big)) {
			return fmt.Errorf("%s with room again: another file, %w", way.name, err)
		}
		os.Remove(way.at)
	}
	return nil
}

func must(sum [sha256.Size]byte, err error) [sha256.Size]byte {
	if err != nil {
		return [sha256.Size]byte{} // equals no file
	}
	return sum
}

// comes returns nil if a file of ours in a directory has a size at least.
func comes(dir string, size int64) error {
	list, err := os.ReadDir(dir)
	for _, d := range list {
		if info, err := d.Info(); err == nil && strings.HasPrefix(d.Name(), ".ztm") {
			if st, ok := info.Sys().(*unix.Stat_t); ok && st.Blocks*512 >= size || info.Size() >= size {
				return nil
			}
		}
	}
	return errors.Join(err, errors.New("nothing has come"))
}

// fill writes a file until the disk is full.
func fill(name string) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	for b := make([]byte, 1<<16); len(b) > 0; {
		if _, err = f.Write(b); err != nil {
			b = b[:len(b)/2]
		}
	}
	if !errors.Is(err, unix.ENOSPC) {
		return err
	}
	return nil
}

// gone unmounts the disk of a mirror while the agent runs, and while it does not. Nothing is taken for deleted, and when it is back
// nothing is fetched again.
func gone(w *world, _ plan) error {
	docs := w.at("a", "docs")
	if err := w.disk(docs, 100); err != nil {
		return err
	}
	image := docs + ".image"
	if err := w.start("a", "b"); err != nil {
		return err
	}
	if err := w.mirror("a", "b"); err != nil {
		return err
	}
	for i := range 30 {
		if err := w.write("a", fmt.Sprintf("d/%d", i), fmt.Sprint("file ", i)); err != nil {
			return err
		}
	}
	if err := w.inStep("a", "b"); err != nil {
		return err
	}
	before, err := os.Stat(filepath.Join(docs, "d/1"))
	if err != nil {
		return err
	}
	for _, running := range []bool{true, false} {
		if !running {
			w.agents["a"].Kill()
		}
		if err := unix.Unmount(docs, unix.MNT_DETACH); err != nil {
			return err
		}
		if !running {
			if err := w.run("a"); err != nil {
				return err
			}
		}
		if err := w.stopped("a"); err != nil {
			return err
		}
		if err := w.write("b", fmt.Sprint("meanwhile ", running), "news"); err != nil {
			return err
		}
		if all, err := contentsOf(w.at("b", "docs")); err != nil || len(all) < 31 {
			return fmt.Errorf("the other has %d files, %w", len(all), err)
		}
		if err := w.mount(image, docs); err != nil {
			return err
		}
		if err := w.inStep("a", "b"); err != nil {
			return err
		}
	}
	after, err := os.Stat(filepath.Join(docs, "d/1"))
	if err == nil && !after.ModTime().Equal(before.ModTime()) {
		err = errors.New("a file was fetched again")
	}
	return err
}

// stopped waits until an agent says that its mirror does nothing.
func (w *world) stopped(name string) error {
	return w.until("the mirror stops", func() error {
		list, err := w.problems(name)
		for _, p := range list {
			if p.State == "stopped" {
				return nil
			}
		}
		return errors.Join(err, fmt.Errorf("it says %v", list))
	})
}

// modes has files come to, and go from, a disk that shows them as FAT does: all are executable, and no mode can be set.
func modes(w *world, _ plan) error {
	fat := w.path("fat-files")
	if err := w.modeless(fat); err != nil {
		return err
	}
	if err := w.start("disk", "fat"); err != nil {
		return err
	}
	if err := w.say("disk", "cloud", "config", "--exec", "on"); err != nil { // a mode that is published counts
		return err
	}
	if err := w.mirror("disk", "fat"); err != nil {
		return err
	}
	if err := errors.Join(w.write("disk", "plain", "one"), w.write("disk", "program", "one"), os.Chmod(w.at("disk", "docs/program"), 0o755)); err != nil {
		return err
	}
	if err := w.inStep("disk", "fat"); err != nil {
		return err
	}
	if err := errors.Join(w.write("fat", "plain", "two, longer"), w.write("fat", "program", "two, longer")); err != nil {
		return err
	}
	if err := w.inStep("disk", "fat"); err != nil {
		return err
	}
	for path, want := range map[string]os.FileMode{"plain": 0, "program": 0o100} {
		st, err := os.Stat(w.at("disk", "docs/"+path))
		if err != nil || st.Mode()&0o100 != want {
			return fmt.Errorf("after an edit on FAT %s is %v, %w", path, st.Mode(), err)
		}
	}
	if err := w.say("disk", "file", "cp", "-r", w.at("disk", "docs"), "fat:"+fat+"/copy"); err != nil {
		return err
	}
	if err := same(w.at("disk", "docs"), fat+"/copy"); err != nil {
		return err
	}
	for _, name := range []string{"disk", "fat"} {
		if list, err := w.problems(name); err != nil || len(list) > 0 {
			return fmt.Errorf("at %s is not done: %v, %w", name, list, err)
		}
	}
	return nil
}

// modeless mounts a directory as a disk with FAT shows its files.
func (w *world) modeless(dir string) error {
	below := dir + "-below"
	if err := errors.Join(os.Mkdir(dir, 0o700), os.Mkdir(below, 0o700)); err != nil {
		return err
	}
	if out, err := exec.CommandContext(w.ctx, "bindfs", "--chmod-deny", "-p", "0755", below, dir).CombinedOutput(); err != nil {
		return missing(fmt.Sprintf("no disk without modes can be had: %v %s", err, out))
	}
	w.mounts = append(w.mounts, dir)
	return nil
}
