// Package load runs the downloads of an endpoint, and says how far each is.
//
//	Start(files) -> a slot for each, all downloads together -> one file after the other is fetched
//	             -> all of it has come: its slot goes to the next one, and it waits for the disk
//	             -> Progress: what is there, what failed, what went aside
//
// How a file is fetched is the caller's.
package load

import (
	"context"
	"crypto/rand"
	"slices"
	"sort"
	"sync"
	"time"

	"ztm/apps/cloud/fetch"
	"ztm/apps/cloud/index"
	"ztm/tunnel/answer"
)

// Fetch fetches one file. It calls came when all of it is here and only the disk is waited for; many
// files do that together. aside is the name that an edited file got that stood in its place.
type Fetch func(ctx context.Context, row index.Row, progress func(fetch.Progress), came func()) (aside string, err error)

// Config says what downloads do.
type Config struct {
	Life    context.Context // of all downloads
	Begin   func(context.Context, *fetch.Rate) Fetch
	Files   int                // that are fetched at a time, by all downloads
	Waiting int                // that wait for the disk at a time, beside these
	Text    func(error) string // writes an error for people
}

// Loads is all downloads that are remembered. Make it with [New]. Its methods may be called from any
// goroutine.
type Loads struct {
	Config
	slots   chan struct{} // has one for each file that is fetched
	waits   chan struct{} // has one for each file that waits for the disk
	running sync.WaitGroup

	mu  sync.Mutex
	all map[string]*Load // by ID; guarded by mu
}

// New makes Loads.
func New(c Config) *Loads {
	return &Loads{Config: c, slots: make(chan struct{}, c.Files), waits: make(chan struct{}, c.Waiting), all: map[string]*Load{}}
}

// Load is one request to fetch files.
type Load struct {
	of     *Loads
	id     string
	cancel context.CancelFunc
	ended  chan struct{} // closed when all files are done

	mu      sync.Mutex
	began   time.Time
	files   int
	bytes   int64 // of all files
	done    int
	there   int64 // bytes that are there, of files that are done
	current map[string]*fetching
	failed  []Failure
	aside   []string
	over    bool
}

// fetching is a file that is being fetched.
type fetching struct{ fetch.Progress }

// Failure is a file that could not be fetched.
type Failure struct {
	Path  string `json:"path"` // "/users/USER/PATH"
	Error string `json:"error"`
}

// Progress is how far a download is.
type Progress struct {
	ID      string    `json:"id"`
	Files   int       `json:"files"`
	Done    int       `json:"done"`
	Bytes   int64     `json:"bytes"`
	Fetched int64     `json:"fetched"`
	Sources int       `json:"sources"`
	Step    string    `json:"step,omitempty"`
	Current []string  `json:"current,omitempty"`
	Failed  []Failure `json:"failed,omitempty"`
	Aside   []string  `json:"aside,omitempty"` // what somebody had edited here, under its new name
	Ended   bool      `json:"ended"`
	Began   time.Time `json:"began"`
}

// Progress returns how far the download is.
func (d *Load) Progress() Progress {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := Progress{ID: d.id, Files: d.files, Done: d.done, Bytes: d.bytes, Fetched: d.there, Failed: slices.Clone(d.failed),
		Aside: slices.Clone(d.aside), Ended: d.over, Began: d.began}
	for name, f := range d.current {
		p.Fetched += f.Bytes
		if p.Sources = max(p.Sources, f.Sources); len(p.Current) < 8 {
			p.Current = append(p.Current, name)
		}
		if p.Step == "" || f.Step == fetch.Fetching {
			p.Step = f.Step
		}
	}
	slices.Sort(p.Current)
	return p
}

// Ended returns a channel that is closed when all files are done.
func (d *Load) Ended() <-chan struct{} { return d.ended }

// Stop ends the download, and waits for that. What has come stays.
func (d *Load) Stop() {
	d.cancel()
	<-d.ended
}

// most is how many downloads are remembered, those that have ended among them.
const most = 64

// Start begins to fetch files, at a rate or, where it is nil, as fast as they come.
func (l *Loads) Start(rows []index.Row, rate *fetch.Rate) (*Load, error) {
	d := &Load{of: l, id: rand.Text()[:8], ended: make(chan struct{}), current: map[string]*fetching{}, files: len(rows), began: time.Now()}
	for _, r := range rows {
		d.bytes += r.Size
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, old := range l.all {
		if len(l.all) >= most && old.Progress().Ended {
			delete(l.all, id)
		}
	}
	if len(l.all) >= most {
		return nil, answer.Errorf(answer.Limit, "%d downloads are running already", most)
	}
	ctx, cancel := context.WithCancel(l.Life)
	d.cancel = cancel
	l.all[d.id] = d
	l.running.Go(func() { d.run(ctx, rows, d.of.Begin(ctx, rate)) })
	return d, nil
}

// Wait returns when no download runs. Nobody calls Start from then on.
func (l *Loads) Wait() { l.running.Wait() }

// Get returns a download that is remembered.
func (l *Loads) Get(id string) (*Load, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	d := l.all[id]
	if d == nil {
		return nil, answer.Errorf(answer.NotFound, "there is no download %.40q", id)
	}
	return d, nil
}

// List returns how far all are, the oldest first.
func (l *Loads) List() []Progress {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := []Progress{}
	for _, d := range l.all {
		list = append(list, d.Progress())
	}
	sort.Slice(list, func(i, j int) bool { return list[i].Began.Before(list[j].Began) })
	return list
}

// Fetches reports whether a file is being fetched now.
func (l *Loads) Fetches(name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, d := range l.all {
		d.mu.Lock()
		_, now := d.current[name]
		d.mu.Unlock()
		if now {
			return true
		}
	}
	return false
}

// run fetches all files, some at a time.
func (d *Load) run(ctx context.Context, rows []index.Row, one Fetch) {
	defer d.cancel()
	var files sync.WaitGroup
	for _, row := range rows {
		if ctx.Err() != nil {
			break
		}
		select {
		case <-ctx.Done(): // others may have all slots for long
		case d.of.slots <- struct{}{}:
			files.Go(func() {
				p := place{d.of, d.of.slots}
				defer p.leave()
				d.one(ctx, row, one, p.wait)
			})
		}
	}
	files.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.over = true
	close(d.ended)
}

// place is the one that a file has: among those that are fetched, or those that wait for the disk.
type place struct {
	of *Loads
	in chan struct{}
}

// wait moves on to those that wait for the disk, once there is room.
func (p *place) wait() {
	if p.in == p.of.slots {
		p.of.waits <- struct{}{}
		p.leave()
		p.in = p.of.waits
	}
}

func (p *place) leave() { <-p.in }

// one fetches one file and notes how that went.
func (d *Load) one(ctx context.Context, row index.Row, one Fetch, came func()) {
	f := &fetching{}
	d.mu.Lock()
	d.current[row.Name()] = f
	d.mu.Unlock()
	aside, err := one(ctx, row, func(p fetch.Progress) {
		d.mu.Lock()
		defer d.mu.Unlock()
		f.Progress = p
	}, came)
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.current, row.Name())
	if aside != "" {
		d.aside = append(d.aside, aside)
	}
	if err == nil {
		d.done++
		d.there += row.Size
		return
	}
	if len(d.failed) < mostFailures {
		d.failed = append(d.failed, Failure{Path: row.Name(), Error: d.of.Text(err)})
	}
}

// mostFailures is how many files that failed a download names.
const mostFailures = 1000
