package fetch

import (
	"slices"
	"sort"
	"sync"

	"ztm/apps/cloud/blocks"
	"ztm/apps/cloud/wire"
	"ztm/tunnel/identity"
)

// job is one content that is being fetched. Its fields belong to the Fetcher's lock once it was
// added, but for those of Want.
type job struct {
	Want
	f        *Fetcher
	list     blocks.List
	listOnly bool
	asked    bool // for the list, and no answer yet
	have     blocks.Bitmap
	taken    blocks.Bitmap // have, or asked for
	missing  int
	bytes    int64
	sources  map[identity.ID]*source
	order    []int32 // blocks, the rarest first; nil while all sources have all: then by number
	step     string

	writing sync.WaitGroup // blocks that are being written
	done    chan struct{}  // closed when err is set
	ended   bool
	err     error
}

// source is what a job knows of an endpoint that has some of it.
type source struct {
	asked  bool          // for its bitmap
	has    blocks.Bitmap // nil: not known yet
	cursor int           // into order: what is before it is taken, or not there
}

func (f *Fetcher) newJob(w Want) *job {
	count := blocks.Count(w.Content.Size)
	j := &job{Want: w, f: f, list: w.List, have: blocks.NewBitmap(count), taken: blocks.NewBitmap(count), missing: count,
		sources: map[identity.ID]*source{}, done: make(chan struct{})}
	if list, ok := w.Content.Whole(); ok {
		j.list = list
	}
	return j
}

// gotLocked notes a block.
func (j *job) gotLocked(n int, length int64) {
	j.f.wake.Broadcast()
	if !j.have.Has(n) {
		j.have.Set(n)
		j.taken.Set(n)
		j.missing--
		j.bytes += length
	}
}

// say tells of a step. The caller does not hold the lock.
func (j *job) say(step string) {
	j.f.mu.Lock()
	j.step = step
	p := j.progressLocked()
	j.f.mu.Unlock()
	j.tell(p)
}

func (j *job) progressLocked() Progress {
	return Progress{Step: j.step, Bytes: j.bytes, Sources: len(j.sources)}
}

func (j *job) tell(p Progress) {
	if j.Progress != nil {
		j.Progress(p)
	}
}

// add begins to fetch a job.
func (f *Fetcher) add(j *job) {
	j.say(Waiting)
	f.mu.Lock()
	defer f.mu.Unlock()
	count := blocks.Count(j.Content.Size)
	for _, id := range j.Sources {
		s := &source{}
		if count < 2 {
			s.has = blocks.FullBitmap(count) // if it has not, it says so
		}
		j.sources[id] = s
	}
	f.jobs = append(f.jobs, j)
	f.checkLocked(j)
	if j.ended {
		return
	}
	for id := range j.sources {
		f.linkLocked(id)
	}
	f.wake.Broadcast()
}

// remove ends the part that a job has in what goes on.
func (f *Fetcher) remove(j *job) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.jobs = slices.DeleteFunc(f.jobs, func(o *job) bool { return o == j })
	f.wake.Broadcast()
}

// end ends a job, once.
func (f *Fetcher) end(j *job, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.endLocked(j, err)
}

func (f *Fetcher) endLocked(j *job, err error) {
	if !j.ended {
		j.ended, j.err = true, err
		close(j.done)
		f.wake.Broadcast()
	}
}

// checkLocked ends a job that is complete, or that nobody can complete.
func (f *Fetcher) checkLocked(j *job) {
	switch {
	case j.list != nil && (j.listOnly || j.missing == 0):
		f.endLocked(j, nil)
	case len(j.sources) == 0:
		f.endLocked(j, ErrNoSource)
	case j.list != nil && j.stuckLocked():
		f.endLocked(j, ErrNoSource)
	}
}

// stuckLocked reports whether a block that is missing is at none of the sources.
func (j *job) stuckLocked() bool {
	for _, s := range j.sources {
		if s.has == nil {
			return false
		}
	}
	for n := range blocks.Count(j.Content.Size) {
		if j.have.Has(n) {
			continue
		}
		there := false
		for _, s := range j.sources {
			there = there || s.has.Has(n)
		}
		if !there {
			return true
		}
	}
	return false
}

// dropLocked leaves a source out of a job.
func (f *Fetcher) dropLocked(j *job, id identity.ID) {
	if j.sources[id] != nil {
		delete(j.sources, id)
		j.sortLocked()
		f.checkLocked(j)
	}
}

// sortLocked orders the blocks by how many sources have them.
func (j *job) sortLocked() {
	count := blocks.Count(j.Content.Size)
	rare, n := make([]uint8, count), 0
	for _, s := range j.sources {
		s.cursor = 0
		if s.has == nil || n == 255 {
			continue
		}
		n++
		for i := range count {
			if s.has.Has(i) {
				rare[i]++
			}
		}
	}
	j.order = nil
	if slices.IndexFunc(rare, func(r uint8) bool { return int(r) != n }) < 0 {
		return
	}
	j.order = make([]int32, count)
	for i := range j.order {
		j.order[i] = int32(i)
	}
	sort.SliceStable(j.order, func(a, b int) bool { return rare[j.order[a]] < rare[j.order[b]] })
}

// nextLocked chooses what is to be asked of a source for this job.
func (j *job) nextLocked(id identity.ID) (r wire.Request, ok bool) {
	s := j.sources[id]
	r.Content = j.Content.Hash
	switch {
	case s == nil || j.ended:
		return r, false
	case j.list == nil:
		r.Op, ok = wire.List, !j.asked
		j.asked = true
		return r, ok
	case s.has == nil:
		r.Op, r.N, ok = wire.Have, uint32(blocks.Count(j.Content.Size)), !s.asked
		s.asked = true
		return r, ok
	}
	for count := blocks.Count(j.Content.Size); s.cursor < count; s.cursor++ {
		n := s.cursor
		if j.order != nil {
			n = int(j.order[n])
		}
		if !j.taken.Has(n) && s.has.Has(n) {
			j.taken.Set(n)
			s.cursor++
			r.Op, r.N = wire.Block, uint32(n)
			return r, true
		}
	}
	return r, false
}

// returnLocked gives back what was asked for and did not come, for others to be asked.
func (j *job) returnLocked(r wire.Request) {
	switch r.Op {
	case wire.List:
		j.asked = false
	case wire.Block:
		if n := int(r.N); !j.have.Has(n) {
			j.taken.Clear(n)
			for _, s := range j.sources {
				s.cursor = 0
			}
		}
	}
}
