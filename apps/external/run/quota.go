package run

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"ztm/apps/external/manifest"
	"ztm/tunnel/answer"
)

// What a program writes is counted by the agent, before a start and while the program runs. What it
// has written stays: who is over the quota is ended, and not started again before somebody removed
// something.

const (
	defaultEvery = 5 * time.Second // how often a program is looked at, where that takes no time
	share        = 50              // looking takes no more than one part in so many of the time

	// together is how many times the memory of one process all processes of a program may hold.
	together = 4
)

// nameless is what processes hold open that has no name any longer, or never had one.
type nameless struct {
	bytes  int64 // on the disk of the program's directory
	files  int   // there
	memory int64 // bytes of the rest: files that are memory
}

// exceeds says what is too much in the directory of a program, and of what it holds without a name; ""
// for nothing. It stops at the first thing that is.
func exceeds(dir string, open nameless, rights manifest.Rights) string {
	bytes, files := open.bytes, open.files
	over := ""
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if path == dir && errors.Is(err, fs.ErrNotExist) {
			return fs.SkipAll // it has written nothing yet
		}
		if err == nil {
			var info fs.FileInfo
			if info, err = d.Info(); err == nil {
				bytes += held(info)
			}
		}
		if path != dir && gone(err) {
			return nil // it removes files while we count
		}
		files++
		switch {
		case err != nil:
			over = "what it has written cannot be counted: " + err.Error()
		case files > rights.FileLimit():
			over = fmt.Sprintf("it has written more than %d files", rights.FileLimit())
		case bytes > rights.DiskLimit():
			over = fmt.Sprintf("it has written more than %d MB", rights.DiskLimit()/1e6)
		default:
			return nil
		}
		return fs.SkipAll
	})
	if err != nil && over == "" {
		over = "what it has written cannot be counted: " + err.Error()
	}
	return over
}

// within refuses to start a program that is over its quota.
func (r *Runner) within(s Spec) error {
	over := exceeds(s.Data, nameless{}, s.Manifest.Rights)
	if over == "" {
		return nil
	}
	return answer.Errorf(answer.Unavailable, "the app %s is not started: %s, below %s", r.id, over, s.Data)
}

// guard kills a program that takes more than it may of what the kernel does not count. stop ends
// that.
func (r *Runner) guard(p *proc) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if why := r.tooMuch(ctx, p); why != "" {
			p.killed = why
			killAll(p.pid)
		}
	}()
	return func() { cancel(); <-done }
}

// tooMuch waits until a program takes too much, and says of what; "" at the end of ctx.
func (r *Runner) tooMuch(ctx context.Context, p *proc) string {
	processes, files := time.NewTicker(r.group.every), time.NewTimer(r.group.every)
	defer processes.Stop()
	defer files.Stop()
	if p.means.Unbounded {
		processes.Reset(min(r.group.every, time.Second)) // nothing else keeps it from becoming many
	}
	rights := p.from.Manifest.Rights
	for {
		select {
		case <-ctx.Done():
			return ""
		case <-processes.C:
			if n := count(p.pid); n > rights.ProcessLimit() {
				return fmt.Sprintf("it had %d processes", n)
			}
			if memoryOf(p.pid) > together*rights.MemoryLimit() {
				return fmt.Sprintf("its processes held more than %d MB together", together*rights.MemoryLimit()/1e6)
			}
		case <-files.C:
			begun := time.Now()
			if over := p.written(rights); over != "" {
				return over
			}
			files.Reset(max(r.group.every, share*time.Since(begun)))
		}
	}
}

// written says what is too much of what a program that runs has written, "" for nothing.
func (p *proc) written(rights manifest.Rights) string {
	open, err := openOf(p.pid, p.from.Data)
	if err != nil && p.means.Holds() {
		return "what it has open cannot be counted: " + err.Error()
	}
	if open.memory > together*rights.MemoryLimit() {
		return fmt.Sprintf("its files in memory were larger than %d MB", together*rights.MemoryLimit()/1e6)
	}
	return exceeds(p.from.Data, open, rights)
}
