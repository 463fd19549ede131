// Package fetch gets the content of files, block by block, from all endpoints that have some of it.
//
//	Fetch: what is there already is checked -> job ─┐
//	                                                ├─> next(link): list, bitmap, rarest block
//	   link (one flow to each source): ask ... ask <┘      at most so much in flight, over all jobs
//	        answers, in order -> hash while writing -> right: have it; wrong: this source is left out
//	all blocks are right -> the caller gives the file its name
//
// A source that stalls, lies, or goes away loses only itself. What it owed is asked of others, and so
// is what a source is late with once another one has nothing else to do.
package fetch

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"ztm/apps/cloud/blocks"
	"ztm/tunnel/identity"
)

// Config says how to reach sources.
type Config struct {
	// Open opens a flow of package wire to an endpoint.
	Open func(ctx context.Context, id identity.ID) (net.Conn, error)

	// Blocks is how many blocks are in flight at a time, over all jobs; of small files as many as
	// fit into the same number of bytes, within reason. Zero is 8.
	Blocks int

	// Stall is how long a source may take for 16 KiB. Zero is 30 s.
	Stall time.Duration
}

// Fetcher gets contents. Make it with [New]. Its methods may be called from any goroutine.
type Fetcher struct {
	Config

	mu     sync.Mutex
	wake   sync.Cond             // something that next looks at has changed
	jobs   []*job                // in the order in which they came; guarded by mu
	links  map[identity.ID]*link // guarded by mu
	budget int                   // in shares of a block, see cost; guarded by mu
	alarm  *time.Timer           // wakes links; nil until the first time; guarded by mu
	due    time.Time             // when that is; zero: it is not set; guarded by mu

	running sync.WaitGroup // links
}

// New makes a Fetcher.
func New(c Config) *Fetcher {
	if c.Blocks == 0 {
		c.Blocks = 8
	}
	if c.Stall == 0 {
		c.Stall = 30 * time.Second
	}
	f := &Fetcher{Config: c, links: map[identity.ID]*link{}, budget: c.Blocks * wholeBlock}
	f.wake.L = &f.mu
	return f
}

// File is where a content goes.
type File interface {
	io.ReaderAt
	io.WriterAt
	Truncate(size int64) error
}

// Want is a content that is wanted.
type Want struct {
	Name    string // of the file that it is fetched for
	Content blocks.Content
	List    blocks.List   // nil where it is not known
	File    File          // has what an earlier attempt left, if it left something
	Left    int64         // how many bytes that are
	Old     io.ReaderAt   // may hold some of the blocks; nil: there is no such file
	OldSize int64         // its size
	Sources []identity.ID // who has it, or a part
	Rate    *Rate         // how fast it may come; nil: as fast as it can

	// Progress is told how it goes, from any goroutine. It must not wait.
	Progress func(Progress)
}

// Progress says how far a job is.
type Progress struct {
	Step    string // what it is doing
	Bytes   int64  // that are there
	Sources int    // that it is fetched from
}

// Steps.
const (
	Hashing  = "checking what is here"
	Waiting  = "waiting for a source"
	Fetching = "fetching"
)

// ErrNoSource is that nobody who can be reached has all of the rest.
var ErrNoSource = errors.New("no source has it any longer")

// Fetch gets a content into its file and returns the list of its blocks. When it returns without an
// error, the file has the content and nothing else: each block was checked. On an error what has
// come stays in the file.
func (f *Fetcher) Fetch(ctx context.Context, w Want) (blocks.List, error) {
	j := f.newJob(w)
	if j.list == nil {
		l := f.newJob(w)
		l.listOnly = true
		if err := f.work(ctx, l); err != nil {
			return nil, err
		}
		j.list = l.list
	}
	if err := j.recall(ctx); err != nil {
		return nil, err
	}
	if err := f.work(ctx, j); err != nil {
		return nil, err
	}
	if err := j.File.Truncate(j.Content.Size); err != nil {
		return nil, err
	}
	return j.list, nil
}

// work runs a job to its end.
func (f *Fetcher) work(ctx context.Context, j *job) error {
	defer context.AfterFunc(ctx, func() { f.end(j, context.Cause(ctx)) })()
	f.add(j)
	<-j.done
	f.remove(j)
	j.writing.Wait()
	return j.err
}

// Wait returns when nothing that the Fetcher started goes on. Nobody calls Fetch from then on.
func (f *Fetcher) Wait() { f.running.Wait() }

// Serve gives what has come of a content so far to others who may have a file for which it is
// fetched: its bitmap, its list and a way to read it. Nothing is in it where no such job has that
// content, or not yet its list.
func (f *Fetcher) Serve(h blocks.Hash, may func(name string) bool) (size int64, have blocks.Bitmap, list blocks.List, file io.ReaderAt) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, j := range f.jobs {
		if j.Content.Hash == h && !j.listOnly && may(j.Name) {
			return j.Content.Size, append(blocks.Bitmap(nil), j.have...), j.list, j.File
		}
	}
	return 0, nil, nil, nil
}

// recall looks for blocks in what is there already: in the file itself, of an earlier attempt, and
// in the old version of the file.
func (j *job) recall(ctx context.Context) error {
	if j.Left == 0 && j.Old == nil {
		return nil
	}
	j.say(Hashing)
	return blocks.Each(j.Content.Size, func(n int, buf []byte) error {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		at, length := blocks.Bounds(j.Content.Size, n)
		switch {
		case at+length <= j.Left && j.right(j.File, n, buf):
		case j.Old != nil && at+length <= j.OldSize && j.right(j.Old, n, buf) && j.right(&copied{ReaderAt: j.Old, to: j.File}, n, buf):
		default:
			return nil
		}
		j.f.mu.Lock()
		defer j.f.mu.Unlock()
		j.gotLocked(n, length)
		return nil
	})
}

// right reports whether a file has the right block n.
func (j *job) right(r io.ReaderAt, n int, buf []byte) bool {
	sum, err := blocks.SumBlock(r, j.Content.Size, n, buf)
	return err == nil && j.list.Is(n, sum[:])
}

// copied writes what is read of a file to the same place of another one: what is hashed is then what
// was written, whoever changes the file in between.
type copied struct {
	io.ReaderAt
	to io.WriterAt
}

func (c *copied) ReadAt(b []byte, at int64) (int, error) {
	n, err := c.ReaderAt.ReadAt(b, at)
	if _, failed := c.to.WriteAt(b[:n], at); failed != nil {
		return 0, failed
	}
	return n, err
}
